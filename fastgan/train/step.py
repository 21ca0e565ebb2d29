"""One step of training as in the paper: update the critic, then update the generator."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fastgan.losses import Loss
from fastgan.penalties import CriticLoss, Penalty, critic_loss
from fastgan.train.state import TrainState


@dataclass
class Step:
    """What a step came to: detached tensors, still on the device, so that nothing waits for them.

    Attributes:
        losses: `critic`, without its penalties, and `generator`: scalars, before the updates.
        penalties: each penalty's value by its name.
        gradient_norms: the norm of the critic's gradient at each point of each penalty, [B], by the penalty's name.
        method: how the gradient of the penalties was computed, in words; None without penalties.
    """

    losses: dict[str, Tensor] = field(default_factory=dict)
    penalties: dict[str, Tensor] = field(default_factory=dict)
    gradient_norms: dict[str, Tensor] = field(default_factory=dict)
    method: str | None = None

    def scalars(self) -> dict[str, Tensor]:
        """All of it as scalars under the names of the log: `penalty_r1`, `gradient_norm_r1` (the mean norm), ..."""
        penalties = {f"penalty_{name}": value for name, value in self.penalties.items()}
        norms = {f"gradient_norm_{name}": norm.mean() for name, norm in self.gradient_norms.items()}
        return {**self.losses, **penalties, **norms}


def train_step(state: TrainState, loss: Loss, penalties: Sequence[Penalty] = ()) -> Step:
    """One update of the critic, then one of the generator: algorithm 1 of Goodfellow et al. 2014 with k = 1."""
    images = state.next_images()
    step = critic_gradients(state, loss, images, penalties)
    state.critic_optimizer.step()

    step.losses["generator"] = generator_gradients(state, loss, images)
    state.generator_optimizer.step()

    state.step += 1
    state.average.update(state.generator, state.step)
    return step


def critic_gradients(state: TrainState, loss: Loss, images: Tensor, penalties: Sequence[Penalty] = ()) -> Step:
    """The critic learns to tell data from samples; its parameters' `.grad` are set.

    Args:
        images: data, [B, C, H, W].
        penalties: of the critic's gradient, in one pass where the critic allows it.
    """
    with torch.no_grad():
        samples = state.generator(state.next_latents())
    state.critic_optimizer.zero_grad()
    if not penalties:
        value = loss.critic(state.critic(images), state.critic(samples))
        value.backward()
        return Step({"critic": value.detach()})
    total = critic_loss(state.critic, images, samples, loss=loss, penalties=penalties)
    total.backward()
    return Step({"critic": total.loss}, total.penalties, total.gradient_norms, _method(total))


def generator_gradients(state: TrainState, loss: Loss, images: Tensor) -> Tensor:
    """The generator learns to be taken for data by the critic as it is now; its parameters' `.grad` are set.

    Args:
        images: the data that the critic's update saw, used by a paired loss alone: its samples are compared with them
            (Huang et al. 2024, arXiv:2501.05441, do the same). They are constants to the generator.

    Returns:
        Its loss, a detached scalar.
    """
    state.critic.requires_grad_(False)
    fake_logits = state.critic(state.generator(state.next_latents()))
    real_logits = None
    if loss.paired:
        with torch.no_grad():
            real_logits = state.critic(images)
    value = loss.generator(fake_logits, real_logits)
    state.generator_optimizer.zero_grad()
    value.backward()
    state.critic.requires_grad_(True)
    return value.detach()


def _method(total: CriticLoss) -> str:
    name = {"one_pass": "one pass", "double_backward": "double backward"}[total.method]
    return name if total.reason is None else f"{name}, because {total.reason}"
