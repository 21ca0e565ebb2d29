"""A lock on a run's folder: one process at a time trains there."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastgan.errors import UserError

NAME = "lock"


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Inside, no other process can lock the folder; the lock of one that died is free.

    Raises:
        UserError: another process trains there; the message names it.
    """
    with open(run / NAME, "a+", encoding="utf-8", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "another process"
            raise UserError(f"--out is {str(run)!r}, where {owner} is training; expected a folder of its own") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)
