"""What a run leaves behind beside its checkpoints: log.jsonl, seconds.jsonl, samples/ and tensorboard/."""

import json
import os
from pathlib import Path
from types import TracebackType

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from fastgan.files import atomic_file, remove_partial
from fastgan.tasks.grid import write_png

LOG, SECONDS, SAMPLES = "log.jsonl", "seconds.jsonl", "samples"


class Records:
    """Writes a run's log and pictures; a resumed run continues them from its step on.

    The clock is in a file of its own, so that the log of a run that was interrupted is that of one that was not.

    Args:
        run: the run's folder.
        step: lines after this step, left by a run that was killed later, are dropped.
    """

    def __init__(self, run: Path, step: int) -> None:
        self._samples = run / SAMPLES
        self._samples.mkdir(parents=True, exist_ok=True)
        for folder in (run, self._samples):
            remove_partial(folder)
        for name in (LOG, SECONDS):
            kept, _ = split_lines(run / name, step)
            with atomic_file(run / name) as file:
                file.writelines(kept)
        # Closed in __exit__.
        self._log, self._seconds = (open(run / name, "a", encoding="utf-8") for name in (LOG, SECONDS))  # noqa: SIM115
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1 if step else None)

    def __enter__(self) -> "Records":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log.close()
        self._seconds.close()
        self._board.close()

    def scalars(self, step: int, values: dict[str, float], samples_per_second: float) -> None:
        """A line of log.jsonl and one of seconds.jsonl, and one point per value in TensorBoard."""
        speed = {"samples_per_second": round(samples_per_second, 1)}
        for file, of_file in ((self._log, values), (self._seconds, speed)):
            file.write(json.dumps({"step": step, **of_file}) + "\n")
            file.flush()
        for name, value in {**values, **speed}.items():
            self._board.add_scalar(name, value, step)

    def picture(self, step: int, picture: Tensor) -> None:
        """samples/step-XXXXXXXX.png and the same in TensorBoard, of uint8 [1 or 3, height, width]."""
        write_png(picture, self._samples / f"step-{step:08d}.png")
        self._board.add_image("samples", picture.numpy(), step)

    def to_disk(self) -> None:
        """Forces the log to the disk, before a checkpoint that stands for it."""
        os.fsync(self._log.fileno())


def split_lines(log: Path, step: int) -> tuple[list[bytes], list[bytes]]:
    """The lines of a log up to a step, and those after it.

    The last one of a run that was killed may be cut off, and is dropped; any other that cannot be read stays in its
    place.
    """
    lines = log.read_bytes().splitlines(keepends=True) if log.exists() else []
    if lines and _step_of(lines[-1]) is None:
        lines.pop()
    first = next((i for i, line in enumerate(lines) if (_step_of(line) or 0) > step), len(lines))
    return lines[:first], lines[first:]


def _step_of(line: bytes) -> int | None:
    """The step that a line is of; None where it does not say."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return None
    return step if isinstance(step, int) else None
