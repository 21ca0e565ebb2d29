"""The critics that are measured, written in torch.nn as users write them."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from benchmarks.functional_critics import GroupedCritic

SLOPE = 0.2


@dataclass(frozen=True)
class Kind:
    """A critic: how to build it and what it is measured on.

    Attributes:
        shape: of one sample.
        batch, gpu_batch: samples of each kind, real and fake, on the CPU and on a GPU.
        convolutional: whether the targets of convolutional critics apply.
        several: whether R1 alone and WGAN-GP are measured too, unless asked otherwise.
        affine: whether one pass is open to it.
        gradient_norm: a sample's, to begin with. Loss and penalties are then both a good part of the critic's gradient,
            so that the check sees both; PyTorch's own initialisation makes the penalties vanish in some critics.
    """

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    batch: int
    gpu_batch: int
    convolutional: bool = True
    several: bool = False
    affine: bool = True
    gradient_norm: float = 0.4


def mlp() -> nn.Module:
    """A perceptron for points in the plane."""
    layers: list[nn.Module] = []
    for width in (2, 256, 256):
        layers += [nn.Linear(width, 256), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers, nn.Linear(256, 1))


def dcgan(width: int = 64) -> nn.Module:
    """Strided 4x4 convolutions, no normalisation (Radford et al. 2016, arXiv:1511.06434)."""
    layers: list[nn.Module] = []
    for before, after in ((3, width), (width, 2 * width), (2 * width, 4 * width)):
        layers += [nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(SLOPE, inplace=True)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * width * 4 * 4, 1))


class ResidualBlock(nn.Module):
    """Pre-activation, 3x3 and 3x3, average pooling on both ways (as in Gulrajani et al. 2017, arXiv:1704.00028)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, before, 3, padding=1)
        self.second = nn.Conv2d(before, after, 3, padding=1)
        self.skip = nn.Conv2d(before, after, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(F.leaky_relu(x, SLOPE))
        h = self.second(F.leaky_relu(h, SLOPE))
        return (F.avg_pool2d(h, 2) + self.skip(F.avg_pool2d(x, 2))) / 2**0.5


class ResNet(nn.Module):
    """A residual block for every halving of the resolution, down to 8x8."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(before, after) for before, after in pairwise(widths)))
        self.head = nn.Linear(widths[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.blocks(self.stem(x)), SLOPE)
        return self.head(h.mean((2, 3)))


def resnet32() -> nn.Module:
    return ResNet((64, 128, 256))


def resnet64() -> nn.Module:
    return ResNet((64, 64, 128, 256))


def resnet32_sn() -> nn.Module:
    """A ResNet with spectral normalisation of every convolution (Miyato et al. 2018, arXiv:1802.05957)."""
    critic = resnet32()
    for module in critic.modules():
        if isinstance(module, nn.Conv2d):
            parametrizations.spectral_norm(module)
    return critic


class GroupedBlock(nn.Module):
    """R3GAN's (Huang et al. 2025, arXiv:2501.05441): 1x1 expands, a grouped 3x3 mixes, 1x1 shrinks."""

    def __init__(self, channels: int, group: int = 16) -> None:
        super().__init__()
        inner = 2 * channels
        self.expand = nn.Conv2d(channels, inner, 1, bias=False)
        self.mix = nn.Conv2d(inner, inner, 3, padding=1, groups=inner // group, bias=False)
        self.shrink = nn.Conv2d(inner, channels, 1, bias=False)
        self.biases = nn.ParameterList([torch.zeros(inner), torch.zeros(inner)])

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.expand(x) + self.biases[0].view(-1, 1, 1), SLOPE)
        h = F.leaky_relu(self.mix(h) + self.biases[1].view(-1, 1, 1), SLOPE)
        return x + self.shrink(h)


class Halve(nn.Module):
    """Bilinear down-sampling, and more channels."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.conv(x), scale_factor=0.5, mode="bilinear", align_corners=False)


def r3gan(widths: tuple[int, ...] = (64, 128, 256)) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 1, bias=False), GroupedBlock(widths[0])]
    for before, after in pairwise(widths):
        layers += [Halve(before, after), GroupedBlock(after)]
    last = widths[-1]
    mixed = nn.Conv2d(last, last, 8, groups=last, bias=False)  # one filter for each channel, down to 1x1
    return nn.Sequential(*layers, mixed, nn.Flatten(), nn.Linear(last, 1, bias=False))


def patchgan(width: int = 64) -> nn.Module:
    """A map of patches of 70x70 pixels (Isola et al. 2017, arXiv:1611.07004), with spectral normalisation."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(SLOPE, inplace=True)]
    for before, after, stride in ((width, 2 * width, 2), (2 * width, 4 * width, 2), (4 * width, 8 * width, 1)):
        layers += [parametrizations.spectral_norm(nn.Conv2d(before, after, 4, stride, 1))]
        layers += [nn.LeakyReLU(SLOPE, inplace=True)]
    return nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, 1, 1))


class MultiPeriod(nn.Module):
    """A list of maps, one for each period of a signal (Kong et al. 2020, arXiv:2010.05646)."""

    def __init__(self, periods: tuple[int, ...] = (2, 3, 5, 7, 11), widths: tuple[int, ...] = (16, 64, 256)) -> None:
        super().__init__()
        self.periods = periods
        self.critics = nn.ModuleList(self._critic(widths) for _ in periods)

    @staticmethod
    def _critic(widths: tuple[int, ...]) -> nn.Module:
        layers: list[nn.Module] = []
        for before, after in pairwise((1, *widths)):
            layers += [nn.Conv2d(before, after, (5, 1), (3, 1), (2, 0)), nn.LeakyReLU(SLOPE)]
        return nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, (3, 1), 1, (1, 0)))

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs = []
        for period, critic in zip(self.periods, self.critics, strict=True):
            h = F.pad(x, (0, -x.shape[2] % period), "reflect")
            outputs.append(critic(h.unflatten(2, (-1, period))))
        return outputs


class UNet(nn.Module):
    """A logit and a map of the image's size (Schönfeld et al. 2020, arXiv:2002.12655)."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128)) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1)
        self.down = nn.ModuleList(ResidualBlock(before, after) for before, after in pairwise(widths))
        self.up = nn.ModuleList(
            nn.Conv2d(below + beside, beside, 3, padding=1) for beside, below in reversed(list(pairwise(widths)))
        )
        self.logit, self.map = nn.Linear(widths[-1], 1), nn.Conv2d(widths[0], 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        beside = [self.stem(x)]
        for block in self.down:
            beside.append(block(beside[-1]))
        h = beside.pop()
        logit = self.logit(F.leaky_relu(h, SLOPE).mean((2, 3)))
        for conv in self.up:
            h = F.interpolate(F.leaky_relu(h, SLOPE), scale_factor=2)
            h = F.leaky_relu(conv(torch.cat([h, beside.pop()], 1)), SLOPE)
        return logit, self.map(h)


class SelfAttention(nn.Module):
    """SAGAN's (Zhang et al. 2019, arXiv:1805.08318): narrow queries and keys of each pixel, and a learned gain."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = channels // 8
        self.query, self.key = nn.Conv2d(channels, narrow, 1), nn.Conv2d(channels, narrow, 1)
        self.value, self.gain = nn.Conv2d(channels, channels, 1), nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).flatten(2).transpose(1, 2) for layer in (self.query, self.key, self.value))
        return x + self.gain * F.scaled_dot_product_attention(q, k, v, scale=1.0).transpose(1, 2).reshape(x.shape)


def attention(width: int = 64) -> nn.Module:
    """Strided convolutions with attention among 1,024 places."""
    return nn.Sequential(
        nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(SLOPE), SelfAttention(width),
        nn.Conv2d(width, 2 * width, 4, 2, 1), nn.LeakyReLU(SLOPE),
        nn.Conv2d(2 * width, 4 * width, 4, 2, 1), nn.LeakyReLU(SLOPE), nn.Flatten(), nn.Linear(4 * width * 64, 1),
    )  # fmt: skip


CRITICS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("mlp", mlp, (2,), 256, 256, convolutional=False, several=True, gradient_norm=0.15),
        Kind("dcgan-32", dcgan, (3, 32, 32), 64, 256, several=True),
        Kind("resnet-32", resnet32, (3, 32, 32), 16, 128, several=True),
        Kind("resnet-64", resnet64, (3, 64, 64), 8, 64),
        Kind("r3gan-32", r3gan, (3, 32, 32), 16, 256),
        Kind("grouped-32", GroupedCritic, (3, 32, 32), 16, 256),
        Kind("resnet-sn-32", resnet32_sn, (3, 32, 32), 16, 128),
        Kind("patchgan-64", patchgan, (3, 64, 64), 8, 64, convolutional=False),
        Kind("multi-period-8192", MultiPeriod, (1, 8192), 8, 64, convolutional=False, gradient_norm=0.03),
        Kind("u-net-32", UNet, (3, 32, 32), 8, 64, convolutional=False, gradient_norm=0.01),
        Kind("attention", attention, (3, 64, 64), 8, 64, convolutional=False, affine=False),
    )
}


def initialise(critic: nn.Module, samples: Tensor, gradient_norm: float) -> None:
    """He's initialisation for leaky ReLU, the heads scaled until the gradients at these samples have this norm."""
    for module in critic.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            if not hasattr(module, "parametrizations"):  # what is normalised may have any scale
                nn.init.kaiming_normal_(module.weight, a=SLOPE, nonlinearity="leaky_relu")
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.1)
    x = samples.detach().requires_grad_()
    (g,) = torch.autograd.grad(sum(output.sum() for output in maps(critic(x))), x)
    heads = [m for m in critic.modules() if isinstance(m, (nn.Linear, nn.Conv2d)) and m.weight.shape[0] == 1]
    with torch.no_grad():
        for head in heads:
            head.weight *= gradient_norm / g.flatten(1).norm(dim=1).mean()


def maps(output: Tensor | list[Tensor] | tuple[Tensor, ...]) -> list[Tensor]:
    """A critic's outputs as a list."""
    return [output] if isinstance(output, Tensor) else list(output)
