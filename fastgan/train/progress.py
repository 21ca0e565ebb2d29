"""What a person watching a run sees: a bar on a terminal, plain lines elsewhere."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class TrainingProgress:
    """Losses, images per second and the remaining time.

    Args:
        start, steps: the step that the run starts from and the one that it ends at.
        batch_size: images per step.
        quiet: shows nothing.
    """

    def __init__(self, start: int, steps: int, batch_size: int, quiet: bool = False) -> None:
        self._console = Console(quiet=quiet)
        self._steps, self._batch_size = steps, batch_size
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),  # what is left of 80 columns
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self._console,
            disable=quiet or not self._console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=steps, completed=start)
        self._last = (start, time.perf_counter())

    def __enter__(self) -> "TrainingProgress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def note(self, text: str) -> None:
        """Says something about the whole run, above the bar."""
        self._console.print(text, soft_wrap=True, highlight=False, markup=False)

    def advance(self, step: int) -> None:
        """Moves the bar; cheap enough for every step."""
        self._bar.update(self._task, completed=step)

    def report(self, step: int, losses: dict[str, float]) -> float:
        """Shows the losses at a step; returns the images per second since the last report."""
        last_step, last_time = self._last
        now = time.perf_counter()
        per_step = (now - last_time) / max(1, step - last_step)
        self._last = (step, now)
        rate = self._batch_size / per_step
        status = " ".join(f"{name} {value:.3f}" for name, value in losses.items()) + f"  {rate:,.0f} images/s"
        self._bar.update(self._task, description=status)
        if not self._console.is_terminal:
            left = round((self._steps - step) * per_step)
            line = f"step {step}/{self._steps}  {status}  {left // 60}:{left % 60:02d} left"
            self._console.print(line, soft_wrap=True, highlight=False)
        return rate
