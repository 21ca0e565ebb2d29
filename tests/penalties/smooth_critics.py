"""Critics that are smooth in their samples, and the error of a gradient as a whole."""

import math
import random

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from tests.penalties.critics import CLASSES, Kind


class SelfAttention(nn.Module):
    """Pre-norm attention and a perceptron, with skips. `composed`: by matrix products, which differentiate twice."""

    def __init__(self, width: int, heads: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )
        self.heads, self.composed = heads, False

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.before(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.composed:
            h = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1) @ v
        else:
            h = F.scaled_dot_product_attention(q, k, v)
        x = x + self.out(h.transpose(1, 2).flatten(2))
        return x + self.mlp(self.after(x))


class Transformer(nn.Module):
    """Patches as tokens."""

    def __init__(self, width: int = 8, depth: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, width, 4, 4), nn.Linear(width, 1)
        self.blocks = nn.Sequential(*(SelfAttention(width, dropout=dropout) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x).flatten(2).transpose(1, 2)).mean(1))


class Conditional(nn.Module):
    """Projection of the label's embedding on smooth features."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.SiLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.Tanh())
        self.head, self.embed = nn.Linear(8, 1), nn.Embedding(CLASSES, 8)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h = self.features(x).sum((2, 3))
        return (self.head(h) + (self.embed(y) * h).sum(1, keepdim=True)).squeeze(1)


class MinibatchStatistic(nn.Module):
    """The deviation over the batch as another feature."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.SiLU(), nn.Flatten()), nn.Linear(97, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        deviation = (h.var(0, correction=0) + 1e-3).sqrt().mean()
        return self.head(torch.cat([h, deviation.expand(len(h), 1)], dim=1))


def convolutional(*norms: type[nn.Module], map_: bool = False) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 8, 3, 2, 1), *(norm(8) for norm in norms), nn.SiLU()]
    layers += [nn.Conv2d(8, 8, 3, padding=1), *(norm(8) for norm in norms), nn.GELU()]
    return nn.Sequential(*layers, *([nn.Conv2d(8, 1, 1)] if map_ else [nn.Flatten(), nn.Linear(128, 1)]))


def spectral(norm=parametrizations.spectral_norm) -> nn.Module:
    critic = convolutional()
    for i in (0, 2, 5):
        critic[i] = norm(critic[i])
    return critic


def group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(2, channels)


SMOOTH: dict[str, Kind] = {
    "convolutions": Kind(convolutional, (3, 8, 8)),
    "group norm": Kind(lambda: convolutional(group_norm), (3, 8, 8)),
    "batch norm": Kind(lambda: convolutional(nn.BatchNorm2d), (3, 8, 8)),
    "spectral norm": Kind(spectral, (3, 8, 8)),
    "spectral norm, hooks": Kind(lambda: spectral(nn.utils.spectral_norm), (3, 8, 8)),
    "transformer": Kind(Transformer, (3, 8, 8)),
    "dropout": Kind(lambda: Transformer(dropout=0.5), (3, 8, 8)),
    "labels": Kind(Conditional, (3, 8, 8), labels=True),
    "minibatch statistic": Kind(MinibatchStatistic, (3, 8, 8)),
}


def random_critic() -> nn.Module:
    """A smooth critic of [B, 3, 8, 8], drawn by Python's generator."""
    if random.random() < 0.4:
        return Transformer(random.choice((16, 32, 64)), random.randint(1, 4))
    layers: list[nn.Module] = []
    channels = 3
    for _ in range(random.randint(1, 4)):
        width = random.choice((4, 8))
        layers.append(nn.Conv2d(channels, width, 3, padding=1))
        layers += random.choice(([], [group_norm(width)], [nn.BatchNorm2d(width)], [nn.InstanceNorm2d(width)]))
        layers.append(random.choice((nn.SiLU, nn.GELU, nn.Tanh, nn.Softplus, nn.Mish, nn.Sigmoid))())
        layers += random.choice(([], [nn.AvgPool2d(3, 1, 1)]))
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * channels, 1))


def composed(critic: nn.Module) -> nn.Module:
    """The critic, its attention by operations that PyTorch differentiates twice."""
    for module in critic.modules():
        if isinstance(module, SelfAttention):
            module.composed = True
    return critic


def error(found: dict[str, Tensor], truth: dict[str, Tensor]) -> float:
    """The norm of the difference of two gradients over the norm of the second."""
    assert found.keys() == truth.keys()
    difference = sum((found[name].double() - t).square().sum() for name, t in truth.items())
    return (difference / sum(t.square().sum() for t in truth.values())).sqrt().item()
