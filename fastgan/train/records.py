"""What a run leaves behind beside its checkpoints: config.json, log.jsonl, samples/ and tensorboard/."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from fastgan.train.checkpoint import atomic_file
from fastgan.train.grid import image_grid, write_png


class Records:
    """Writes a run's log and pictures; a resumed run continues them from its step on.

    Args:
        run: the run's folder.
        config: the settings, JSON values only, kept as config.json.
        step: lines of the log after this step, left by a run that crashed later, are dropped.
    """

    def __init__(self, run: Path, config: dict[str, Any], step: int) -> None:
        self._samples = run / "samples"
        self._samples.mkdir(parents=True, exist_ok=True)
        with atomic_file(run / "config.json") as file:
            file.write((json.dumps(config, indent=2) + "\n").encode())
        log = run / "log.jsonl"
        kept = _lines_up_to(step, log) if log.exists() else []
        with atomic_file(log) as file:
            file.writelines(kept)
        self._log = open(log, "a", encoding="utf-8")  # noqa: SIM115 (closed in __exit__)
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1 if step else None)

    def __enter__(self) -> "Records":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log.close()
        self._board.close()

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """One line of log.jsonl, and one point per value in TensorBoard."""
        self._log.write(json.dumps({"step": step, **values}) + "\n")
        self._log.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def samples(self, step: int, images: Tensor, columns: int | None = None) -> None:
        """samples/step-XXXXXXXX.png and the same picture in TensorBoard, of images [N, C, H, W] in [-1, 1].

        `columns` images in a row; None for a nearly square picture.
        """
        grid = image_grid(images, columns)
        write_png(grid, self._samples / f"step-{step:08d}.png")
        self._board.add_image("samples", grid.numpy(), step)


def _lines_up_to(step: int, log: Path) -> list[bytes]:
    kept = []
    for line in log.read_bytes().splitlines(keepends=True):
        try:
            written_at = json.loads(line)["step"]
        except (ValueError, KeyError, TypeError):  # the last line of a crashed run may be cut off
            break
        if written_at > step:
            break
        kept.append(line)
    return kept
