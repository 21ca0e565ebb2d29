"""A run's loop: step after step, reporting and saving on the way."""

import math
from collections.abc import Callable

from fastgan.train.guard import DivergedError, Guard
from fastgan.train.progress import TrainingProgress
from fastgan.train.records import Records
from fastgan.train.run import Run, Step
from fastgan.train.signals import StopRequest
from fastgan.train.state import not_finite


def train_until(
    run: Run, stop: StopRequest, records: Records, progress: TrainingProgress, save: Callable[[], None]
) -> None:
    """Steps until the run's last step or a request to stop, and saves there.

    Log lines are written at the same steps whether or not the run was interrupted in between.

    Raises:
        DivergedError: a loss, a gradient or what would be saved is no longer finite, or a gradient is far too large.
            Nothing of it is saved.
    """
    settings, guard = run.settings, Guard()
    saved_at, remarked = None, ""
    while stop.signal is None:
        taken = next(run, None)
        if taken is None:
            break
        if run.task.remark != remarked:
            remarked = run.task.remark
            progress.note(remarked)
        step = taken.number
        guard.record(step, run.game, taken.losses)
        progress.advance(step)
        if step % settings.log_every == 0:
            guard.check()
            values = _finite(taken)
            shown = {name: values[name] for name in values if name in ("critic", "generator")}
            records.scalars(step, values, progress.report(step, shown))
        if step % settings.sample_every == 0:
            _check(run, guard)
            records.picture(step, run.picture())
        if step % settings.save_every == 0:
            _check(run, guard)
            records.to_disk()
            save()
            saved_at = step
    if saved_at != run.step:
        _check(run, guard)
        records.picture(run.step, run.picture())
        records.to_disk()
        save()


def _check(run: Run, guard: Guard) -> None:
    """Raises DivergedError unless the steps so far and what they led to are fit to be kept.

    A step's losses and gradients are from before its update, which may overflow.
    """
    guard.check()
    for name in not_finite(run.tensors()):
        if name not in run.infinite:
            raise DivergedError(f"{name} is not finite after step {run.step}, expected numbers")


def _finite(taken: Step) -> dict[str, float]:
    """What a step came to, as numbers. Reading them waits for the device, so it is not done at every step."""
    values = {name: value.item() for name, value in taken.log.items()}
    for name, value in values.items():
        if not math.isfinite(value):
            raise DivergedError(f"{name} is {value} at step {taken.number}, expected a finite number")
    return values
