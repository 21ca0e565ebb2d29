"""Reads files of torch.save without running their code; raises with the name of what is refused."""

import argparse
import io
import pickle
import re
import struct
from typing import Any

import torch

from fastgan.errors import one_line

DAMAGE = (
    pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError,
    MemoryError, RuntimeError, AssertionError, struct.error,
)  # fmt: skip
"""The exceptions that reading a damaged file, or one that is no pickle, may raise."""


class RefusedError(Exception):
    """The pickle asks for something that is not built; the message says what, by its name."""


def load_torch(data: bytes) -> Any:
    """`torch.load(weights_only=True)` on the CPU, with argparse.Namespace, a bag of values that train.py scripts save.

    Raises:
        RefusedError: it refers to something that is not a tensor or a plain container.
        Exception: one of `DAMAGE`.
    """
    with torch.serialization.safe_globals([argparse.Namespace]):
        try:
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            # Their advice to run the file is not passed on.
            named = re.search(r"GLOBAL ([\w.]+)", str(error))
            what = named[1] if named else one_line(ValueError(str(error).split("error: ")[-1]))
            raise RefusedError(what) from None
