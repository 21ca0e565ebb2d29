"""Training as in the paper: update the critic, update the generator, over and over; report and save on the way."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fastgan.errors import UserError
from fastgan.losses import LOSSES, Loss
from fastgan.train.config import TrainConfig
from fastgan.train.progress import TrainingProgress
from fastgan.train.records import Records
from fastgan.train.sampling import draw
from fastgan.train.signals import StopRequest
from fastgan.train.state import TrainState

GRID = 64
"""Samples in a picture of the run, always from the same latents."""


def train_step(state: TrainState, loss: Loss) -> tuple[Tensor, Tensor]:
    """One update of the critic, then one of the generator: algorithm 1 of Goodfellow et al. 2014 with k = 1.

    Returns:
        The critic's and the generator's loss before their updates: detached scalars, still on the device.
    """
    critic_loss = critic_gradients(state, loss)
    state.critic_optimizer.step()

    generator_loss = generator_gradients(state, loss)
    state.generator_optimizer.step()

    state.step += 1
    state.average.update(state.generator, state.step)
    return critic_loss, generator_loss


def critic_gradients(state: TrainState, loss: Loss) -> Tensor:
    """The critic learns to tell data from samples; its parameters' `.grad` are set."""
    with torch.no_grad():
        samples = state.generator(state.next_latents())
    value = loss.critic(state.critic(state.next_images()), state.critic(samples))
    state.critic_optimizer.zero_grad()
    value.backward()
    return value.detach()


def generator_gradients(state: TrainState, loss: Loss) -> Tensor:
    """The generator learns to be taken for data by the critic as it is now; its parameters' `.grad` are set."""
    state.critic.requires_grad_(False)
    value = loss.generator(state.critic(state.generator(state.next_latents())))
    state.generator_optimizer.zero_grad()
    value.backward()
    state.critic.requires_grad_(True)
    return value.detach()


def train_until(
    state: TrainState,
    config: TrainConfig,
    stop: StopRequest,
    records: Records,
    progress: TrainingProgress,
    save: Callable[[], None],
) -> None:
    """Steps until `config.steps` or a request to stop, and saves there.

    Log lines are written at the same steps whether or not the run was interrupted in between.

    Raises:
        UserError: a loss is no longer finite. It is never saved.
    """
    loss = LOSSES[config.loss]
    losses: dict[str, Tensor] = {}
    saved_at = None
    while state.step < config.steps and stop.signal is None:
        losses["critic"], losses["generator"] = train_step(state, loss)
        step = state.step
        progress.advance(step)
        if step % config.log_every == 0:
            values = _finite(step, losses)
            rate = progress.report(step, values)
            records.scalars(step, {**values, "images_per_second": round(rate, 1)})
        if step % config.sample_every == 0:
            records.samples(step, _picture(state, config))
        if step % config.save_every == 0:
            _finite(step, losses)
            save()
            saved_at = step
    if saved_at != state.step:
        _finite(state.step, losses)
        records.samples(state.step, _picture(state, config))
        save()


def _picture(state: TrainState, config: TrainConfig) -> Tensor:
    return draw(state.average.network, state.latent_dim, GRID, config.seed)


def _finite(step: int, losses: dict[str, Tensor]) -> dict[str, float]:
    """The losses as numbers. Reading them waits for the device, so it is not done at every step."""
    values = {player: value.item() for player, value in losses.items()}
    for player, value in values.items():
        if not math.isfinite(value):
            raise UserError(f"the {player}'s loss is {value} at step {step}, expected a finite one; lower --lr")
    return values
