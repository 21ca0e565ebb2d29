"""The gradient of StyleGAN2's path-length regularisation in a run."""

from typing import cast

from torch import Tensor

from fastgan.penalties import path_length
from fastgan.penalties.path_lengths import StyledGenerator
from fastgan.train.state import TrainState


def path_length_gradients(state: TrainState, weight: float, times: int, z: Tensor, mean: Tensor) -> Tensor:
    """Adds the gradient of the path-length regularisation, counted `times` times, to the generator's parameters.

    On half a batch of latents of its own, as in the paper, appendix B: it differentiates the generator twice. The mean
    path length of the state becomes `mean`, moved towards the lengths of these.

    Args:
        z: the batch of latents, [B, latent_dim].
        mean: of the path lengths before, a scalar.

    Returns:
        The penalty with its weight, a detached scalar.
    """
    assert state.path_length is not None
    generator = cast(StyledGenerator, state.generator)
    found = path_length(generator, z[: max(1, len(z) // 2)], mean)
    (weight * times * found.penalty).backward()
    state.path_length.copy_(found.mean)
    return weight * found.penalty.detach()
