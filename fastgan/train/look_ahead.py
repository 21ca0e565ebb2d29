"""The generator's objective through steps of the critic (Metz et al. 2017, arXiv:1611.02163)."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from fastgan.losses import Loss
from fastgan.nn import statistics_of
from fastgan.train.labels import UNLABELLED, Labels, given
from fastgan.train.state import TrainState
from fastgan.unrolling import SGD, Adam, InnerOptimizer, unrolled_generator_loss


def unrolled_objective(
    state: TrainState, loss: Loss, images: Tensor, latents: Tensor, steps: int, labels: Labels = UNLABELLED
) -> Tensor:
    """What the generator minimises under the critic as it will be after steps on this batch, through all of them.

    The steps are those that the critic's optimiser would make next, of its plain loss, all on the same data and samples
    as in the authors' code; critic and optimiser stay as they are.

    Args:
        images: data, [B, C, H, W].
        latents: of the samples, [B, latent_dim].
        steps: K, at least 1.
        labels: of the images and of the samples.

    Returns:
        A scalar to differentiate.
    """
    samples = state.generator(latents, *given(labels.fake))
    loss, told = state.conditioning.with_labels(loss, labels)
    of_images, of_samples = given(told.real), given(told.fake)

    def of_data(critic: Callable[..., Tensor]) -> Tensor:
        return critic(images, *of_images)

    def of_fake(critic: Callable[..., Tensor]) -> Tensor:
        with statistics_of("fake", state.critic):  # whose layers `critic` runs with other parameters and buffers
            return critic(samples, *of_samples)

    with _trainable(state.critic.parameters()):
        return unrolled_generator_loss(
            state.critic,
            critic_loss=lambda critic: loss.critic(of_data(critic), of_fake(critic)),
            generator_loss=lambda critic: loss.generator(of_fake(critic), of_data(critic) if loss.needs_real else None),
            steps=steps,
            optimizer=_next_steps(state),
        )


def _next_steps(state: TrainState) -> InnerOptimizer:
    optimizer = state.critic_optimizer
    if isinstance(optimizer, torch.optim.SGD):
        return SGD(optimizer.param_groups[0]["lr"])
    assert isinstance(optimizer, torch.optim.Adam)
    return Adam.continuing(optimizer, state.critic)


@contextmanager
def _trainable(parameters: Iterable[Tensor]) -> Iterator[None]:
    """Inside, these require gradients: the game freezes the critic in the generator's closure, but its copies move."""
    held = [p for p in parameters if not p.requires_grad]
    for p in held:
        p.requires_grad_(True)
    try:
        yield
    finally:
        for p in held:
            p.requires_grad_(False)
