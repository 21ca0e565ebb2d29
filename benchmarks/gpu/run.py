"""Runs stages in order. A task is a process; it ends in its own time or is killed at the end of its box.

Only the standard library is imported here: the package may not be built yet, and a fault of the device cannot reach
this process.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.gpu.record import CUT_SHORT, NOT_RUN, OK, Record, Result

POLL_S = 0.05
REAP_S = 5.0
"""How long to wait for a process that was killed; one that the driver holds may never end, and the next must begin."""


@dataclass(frozen=True)
class Task:
    """A command that is given `--rows FILE` and appends what it finds there, one JSON object a line.

    Attributes:
        takes_rows: False for a command that is not ours: it is given nothing, and only its exit status counts.
        box_s: seconds after which it is killed.
        environment: variables in addition to those of this process.
    """

    name: str
    command: Sequence[str]
    box_s: float
    takes_rows: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """Tasks that answer one question.

    Attributes:
        box_s: seconds for all of them together.
        tasks: what has been recorded so far -> the tasks; called when the stage begins.
        at_once: how many run beside each other; 1 where anything is timed.
    """

    name: str
    box_s: float
    tasks: Callable[[Record], list[Task]]
    at_once: int = 1


def run(stages: Sequence[Stage], record: Record, budget_s: float) -> None:
    """Runs every stage in order until the budget is used up; the last ones may not be run."""
    end = time.monotonic() + budget_s
    with tempfile.TemporaryDirectory(prefix="fastgan-gpu-") as scratch:
        for stage in stages:
            record.begin(stage.name)
            try:
                tasks = stage.tasks(record)
            except Exception as error:  # what it needs to know was not found out
                record.add(Result(stage.name, f"no tasks: {type(error).__name__}: {error}", 0.0))
                continue
            _run_stage(stage, tasks, record, min(end, time.monotonic() + stage.box_s), Path(scratch))


def _run_stage(stage: Stage, tasks: list[Task], record: Record, end: float, scratch: Path) -> None:
    waiting, running = deque(tasks), list["_Running"]()
    try:
        while waiting or running:
            while waiting and len(running) < stage.at_once and time.monotonic() < end:
                running.append(_Running(waiting.popleft(), end, scratch))
            for each in list(running):
                if (status := each.ending()) is not None:
                    running.remove(each)
                    record.add(each.end(status))
            if time.monotonic() >= end and not running:
                for task in waiting:
                    record.add(Result(task.name, NOT_RUN, 0.0))
                waiting.clear()
            time.sleep(POLL_S)
    finally:  # interrupted: keep what the running tasks have found
        for each in running:
            record.add(each.end("interrupted"))


class _Running:
    """A task's process, with all that it starts in a group of their own."""

    def __init__(self, task: Task, stage_end: float, scratch: Path) -> None:
        self.task = task
        self.began = time.monotonic()
        self.box_end, self.stage_end = self.began + task.box_s, stage_end
        folder = Path(tempfile.mkdtemp(dir=scratch))
        self.rows, self.log = folder / "rows.jsonl", folder / "log.txt"
        command = [*task.command, *(("--rows", str(self.rows)) if task.takes_rows else ())]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **task.environment},
                start_new_session=True,
            )

    def ending(self) -> str | None:
        """How it has ended, or must end now; None while it may go on."""
        if self.process.poll() is not None:
            return _ending(self.process.returncode)
        if time.monotonic() >= self.box_end:
            return f"timed out after {self.task.box_s:g} s"
        return CUT_SHORT if time.monotonic() >= self.stage_end else None

    def end(self, status: str) -> Result:
        """Kills the whole group: what a process that has ended left behind as well."""
        seconds = time.monotonic() - self.began
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(REAP_S)
        return Result.of_files(self.task.name, status, seconds, self.rows, self.log)


def _ending(returncode: int) -> str:
    if returncode == 0:
        return OK
    if returncode > 0:
        return f"exit status {returncode}"
    return f"killed by {signal.Signals(-returncode).name}"


@contextlib.contextmanager
def stop_on_signals() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does: through `finally`, so that no task outlives it and nothing found is lost."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
