"""A run's loop: step after step, reporting and saving on the way."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fastgan.train.config import TrainConfig
from fastgan.train.guard import DivergedError, Guard, check_tensors
from fastgan.train.progress import TrainingProgress
from fastgan.train.records import Records
from fastgan.train.results import Step
from fastgan.train.sampling import draw, draw_latents
from fastgan.train.signals import StopRequest
from fastgan.train.state import TrainState
from fastgan.train.step import train_step

GRID = 64
"""Samples in a picture of the run, always from the same latents."""
COLUMNS = 16
"""Most classes in one."""


def train_until(
    state: TrainState,
    config: TrainConfig,
    stop: StopRequest,
    records: Records,
    progress: TrainingProgress,
    save: Callable[[], None],
) -> None:
    """Steps until `config.steps` or a request to stop, and saves there.

    Says once how the penalties' gradient is computed. Log lines are written at the same steps whether or not the run
    was interrupted in between.

    Raises:
        DivergedError: a loss, a gradient or what would be saved is no longer finite, or a gradient is far too large.
            Nothing of it is saved.
    """
    regularisation, guard = config.regularisation, Guard()
    last: Step | None = None
    saved_at, noted = None, False
    while state.step < config.steps and stop.signal is None:
        taken = train_step(state, regularisation)
        if taken.method is not None and not noted:
            progress.note(f"gradient of {config.penalty}: {taken.method}")
            noted = True
        last = taken if last is None else taken.after(last)
        step = state.step
        guard.record(step, state.game, taken.losses)
        progress.advance(step)
        if step % config.log_every == 0:
            guard.check()
            values = _finite(step, last)
            rate = progress.report(step, {player: values[player] for player in last.losses})
            records.scalars(step, {**values, "images_per_second": round(rate, 1)})
        if step % config.sample_every == 0:
            _check(state, guard)
            records.samples(step, *_picture(state, config))
        if step % config.save_every == 0:
            _check(state, guard)
            save()
            saved_at = step
    if saved_at != state.step:
        _check(state, guard)
        records.samples(state.step, *_picture(state, config))
        save()


def _check(state: TrainState, guard: Guard) -> None:
    """Raises DivergedError unless the steps so far and what they led to are fit to be kept."""
    guard.check()
    check_tensors(state.step, state.tensors())


def _picture(state: TrainState, config: TrainConfig) -> tuple[Tensor, int | None]:
    """Samples of the average, and how many are in a row: with classes one column for each, one latent for each row."""
    network = state.average.network
    device = next(network.parameters()).device
    if not state.conditioning.tells_generator:
        return draw(network, draw_latents(state.latent_dim, GRID, config.seed), device), None
    columns = min(state.num_classes, COLUMNS)
    rows = GRID // columns
    latents = draw_latents(state.latent_dim, rows, config.seed).repeat_interleave(columns, dim=0)
    return draw(network, latents, device, torch.arange(columns).repeat(rows)), columns


def _finite(step: int, taken: Step) -> dict[str, float]:
    """What a step came to, as numbers. Reading them waits for the device, so it is not done at every step."""
    values = {name: value.item() for name, value in taken.scalars().items()}
    for name, value in values.items():
        if not math.isfinite(value):
            what = f"{name}'s loss" if name in taken.losses else name
            raise DivergedError(f"the {what} is {value} at step {step}, expected a finite one")
    return values
