"""Perceptrons for points: three hidden layers, as small GANs in the plane have them."""

from itertools import pairwise

from torch import Tensor, nn

from fastgan.nn import MinibatchDiscrimination
from fastgan.ops._common.checks import check_count


class PointGenerator(nn.Module):
    """Latent vectors to points.

    Args:
        latent_dim: numbers in a latent vector.
        width: of the hidden layers.
        dims: numbers in a point.

    Shape: [B, latent_dim] -> [B, dims]
    """

    def __init__(self, latent_dim: int = 8, width: int = 128, dims: int = 2) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.layers = nn.Sequential(*_hidden(latent_dim, width, nn.ReLU()), nn.Linear(width, dims))

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)


class PointCritic(nn.Module):
    """Points to logits.

    Args:
        dims: numbers in a point.
        width: of the hidden layers.
        minibatch: features of minibatch discrimination before the last layer; 0 for none.

    Shape: [B, dims] -> [B, 1]
    """

    def __init__(self, dims: int = 2, width: int = 128, minibatch: int = 0) -> None:
        super().__init__()
        hidden = _hidden(dims, width, nn.LeakyReLU(0.2))
        similarities = [MinibatchDiscrimination(width, minibatch, kernel_dims=8)] if minibatch else []
        self.layers = nn.Sequential(*hidden, *similarities, nn.Linear(width + minibatch, 1))

    def forward(self, points: Tensor) -> Tensor:
        return self.layers(points)


def _hidden(inputs: int, width: int, activation: nn.Module) -> list[nn.Module]:
    for name, value in (("inputs", inputs), ("width", width)):
        check_count("perceptron", name, value)
    sizes = [inputs, width, width, width]
    return [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), activation)]
