"""One step of training as in the paper: update the critic, then update the generator."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import Tensor

from fastgan.losses import Loss
from fastgan.penalties import CriticLoss, Penalty, critic_loss, path_length
from fastgan.penalties.path_length import StyledGenerator
from fastgan.train.regularisation import NO_REGULARISATION, Regularisation
from fastgan.train.state import TrainState


@dataclass
class Step:
    """What a step came to: detached tensors, still on the device, so that nothing waits for them.

    Attributes:
        losses: `critic`, without its penalties, and `generator`: scalars, before the updates.
        penalties: each penalty's value by its name, `path_length` among them.
        gradient_norms: the norm of the critic's gradient at each point of each penalty, [B], by the penalty's name.
        method: how the gradient of the penalties was computed, in words; None without penalties.
    """

    losses: dict[str, Tensor] = field(default_factory=dict)
    penalties: dict[str, Tensor] = field(default_factory=dict)
    gradient_norms: dict[str, Tensor] = field(default_factory=dict)
    method: str | None = None

    def after(self, previous: "Step") -> "Step":
        """This step, with what it left out of the regularisation as it was last."""
        return replace(
            self,
            penalties={**previous.penalties, **self.penalties},
            gradient_norms={**previous.gradient_norms, **self.gradient_norms},
        )

    def scalars(self) -> dict[str, Tensor]:
        """All of it as scalars under the names of the log: `penalty_r1`, `gradient_norm_r1` (the mean norm), ..."""
        penalties = {f"penalty_{name}": value for name, value in self.penalties.items()}
        norms = {f"gradient_norm_{name}": norm.mean() for name, norm in self.gradient_norms.items()}
        return {**self.losses, **penalties, **norms}


def train_step(state: TrainState, loss: Loss, regularisation: Regularisation = NO_REGULARISATION) -> Step:
    """One update of the critic, then one of the generator: algorithm 1 of Goodfellow et al. 2014 with k = 1."""
    images = state.next_images()
    every = regularisation.penalty_every
    penalties = regularisation.penalties if state.step % every == 0 else ()
    step = critic_gradients(state, loss, images, penalties, every)
    state.critic_optimizer.step()

    step.losses["generator"] = generator_gradients(state, loss, images)
    every = regularisation.path_length_every
    if regularisation.path_length and state.step % every == 0:
        step.penalties["path_length"] = path_length_gradients(state, regularisation.path_length, every)
    state.generator_optimizer.step()

    state.step += 1
    state.average.update(state.generator, state.step)
    return step


def critic_gradients(
    state: TrainState, loss: Loss, images: Tensor, penalties: Sequence[Penalty] = (), times: int = 1
) -> Step:
    """The critic learns to tell data from samples; its parameters' `.grad` are set.

    Args:
        images: data, [B, C, H, W].
        penalties: of the critic's gradient, in one pass where the critic allows it.
        times: how often the penalties are counted.
    """
    with torch.no_grad():
        samples = state.generator(state.next_latents())
    state.critic_optimizer.zero_grad()
    if not penalties:
        value = loss.critic(state.critic(images), state.critic(samples))
        value.backward()
        return Step({"critic": value.detach()})
    total = critic_loss(
        state.critic, images, samples, loss=loss, penalties=[penalty.times(times) for penalty in penalties]
    )
    total.backward()
    values = {name: value / times for name, value in total.penalties.items()}
    return Step({"critic": total.loss}, values, total.gradient_norms, _method(total))


def generator_gradients(state: TrainState, loss: Loss, images: Tensor) -> Tensor:
    """The generator learns to be taken for data by the critic as it is now; its parameters' `.grad` are set.

    Args:
        images: the data that the critic's update saw, used by a loss that `needs_real` alone: its samples are compared
            with them (Huang et al. 2024, arXiv:2501.05441, do the same). They are constants to the generator.

    Returns:
        Its loss, a detached scalar.
    """
    state.critic.requires_grad_(False)
    fake_logits = state.critic(state.generator(state.next_latents()))
    real_logits = None
    if loss.needs_real:
        with torch.no_grad():
            real_logits = state.critic(images)
    value = loss.generator(fake_logits, real_logits)
    state.generator_optimizer.zero_grad()
    value.backward()
    state.critic.requires_grad_(True)
    return value.detach()


def path_length_gradients(state: TrainState, weight: float, times: int) -> Tensor:
    """Adds the gradient of the path-length regularisation, counted `times` times, to the generator's parameters.

    On half a batch of fresh latents, as in the paper, appendix B: it differentiates the generator twice.

    Returns:
        The penalty with its weight, a detached scalar.
    """
    z = state.next_latents()
    mean = state.path_length
    assert mean is not None
    generator = cast(StyledGenerator, state.generator)
    found = path_length(generator, z[: max(1, len(z) // 2)], mean)
    (weight * times * found.penalty).backward()
    mean.copy_(found.mean)
    return weight * found.penalty.detach()


def _method(total: CriticLoss) -> str:
    name = {"one_pass": "one pass", "double_backward": "double backward"}[total.method]
    return name if total.reason is None else f"{name}, because {total.reason}"
