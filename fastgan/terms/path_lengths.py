"""Path-length regularisation of StyleGAN2's generator: a step in w should change the image by a fixed amount."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

DECAY = 0.01
"""Weight of a batch in the moving mean of path lengths: Karras et al. 2020, arXiv:1912.04958, appendix B."""


class StyledGenerator(Protocol):
    """A generator that can be regularised, such as `fastgan.models.StyleGAN2Generator`."""

    def ws(self, z: Tensor) -> Tensor:
        """One w for each layer: [B, num_ws, w_dim]."""
        ...

    def synthesis(self, ws: Tensor) -> Tensor:
        """Images from them: [B, C, H, W]."""
        ...


class PathLength(NamedTuple):
    """What `path_length` returns.

    Attributes:
        penalty: a scalar, (lengths - mean)^2 averaged over the batch; differentiable.
        mean: the moving average of the lengths, this batch included; detached.
        lengths: [B], detached.
    """

    penalty: Tensor
    mean: Tensor
    lengths: Tensor


def path_length(generator: StyledGenerator, z: Tensor, mean: Tensor, decay: float = DECAY) -> PathLength:
    """Penalises how far ||J_w^T y||, y a random image, is from its moving average.

        lengths_i = ||grad_w <G(w_i), y_i>||,    y ~ N(0, 1 / (H W))
        penalty   = mean over i of (lengths_i - mean)^2

    The norm is the root of the mean over layers of the squared norm of each layer's gradient. Karras et al. 2020,
    arXiv:1912.04958, section 3.2, equation 4.

    Args:
        generator: `ws` and `synthesis`, both differentiable to the second order.
        z: [B, latent_dim].
        mean: a scalar, of the last call; zero at first.
        decay: the weight of this batch in the new mean.
    """
    ws = generator.ws(z)
    images = generator.synthesis(ws)
    y = torch.randn_like(images) / (images.shape[2] * images.shape[3]) ** 0.5
    (g,) = torch.autograd.grad((images * y).sum(), ws, create_graph=True)
    g = g.to(torch.promote_types(g.dtype, mean.dtype))  # autocast's halves are summed and averaged in float32
    lengths = g.square().sum(2).mean(1).sqrt()
    moved = torch.lerp(mean.to(lengths), lengths.detach().mean(), decay)
    return PathLength((lengths - moved).square().mean(), moved, lengths.detach())
