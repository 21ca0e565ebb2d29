"""Critics for 32x32 images whose layers call torch's functions with weights of their own, as many code bases do."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2


# --- residual blocks of grouped convolutions, as in R3GAN (Huang et al. 2024) ----------------------------------------


class Filters(nn.Module):
    """A convolution without a bias, whose weight is cast to the dtype of what it is given."""

    def __init__(self, before: int, after: int, size: int, groups: int = 1) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(after, before // groups, size, size))
        nn.init.kaiming_normal_(self.weight, a=SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight.to(x.dtype), padding=self.weight.shape[-1] // 2, groups=self.groups)


class BiasedLeakyReLU(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x + self.bias.to(x.dtype).view(1, -1, 1, 1), SLOPE)


class GroupedBlock(nn.Module):
    """1x1, grouped 3x3 and 1x1 convolutions beside a skip, an activation between each."""

    def __init__(self, width: int, cardinality: int, expansion: int = 2) -> None:
        super().__init__()
        inner = width * expansion
        self.expand, self.act1 = Filters(width, inner, 1), BiasedLeakyReLU(inner)
        self.grouped, self.act2 = Filters(inner, inner, 3, cardinality), BiasedLeakyReLU(inner)
        self.shrink = Filters(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.shrink(self.act2(self.grouped(self.act1(self.expand(x)))))


class GroupedCritic(nn.Module):
    def __init__(self, width: int = 96, cardinality: int = 12, stages: int = 4) -> None:
        super().__init__()
        self.stem = Filters(3, width, 1)
        self.blocks = nn.ModuleList(GroupedBlock(width, cardinality) for _ in range(stages))
        self.last = nn.Parameter(torch.randn(width, 1, 4, 4) / 4)  # depthwise, of the whole image
        self.head = nn.Linear(width, 1, bias=False)
        self.register_buffer("blur", torch.tensor([1.0, 2.0, 1.0]).outer(torch.tensor([1.0, 2.0, 1.0])) / 16)

    def halve(self, x: Tensor) -> Tensor:
        kernel = self.blur.to(x.dtype).expand(x.shape[1], 1, 3, 3)  # type: ignore[operator]
        return F.conv2d(x, kernel, stride=2, padding=1, groups=x.shape[1])

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for i, block in enumerate(self.blocks):
            x = block(self.halve(x) if i else x)
        return self.head(F.conv2d(x, self.last.to(x.dtype), groups=x.shape[1]).flatten(1))


# --- StyleGAN2's critic (Karras et al. 2020) with its operations in plain PyTorch ------------------------------------


def bias_act(x: Tensor, b: Tensor, slope: float = SLOPE, gain: float = 2**0.5, clamp: float = 256.0) -> Tensor:
    """Bias, leaky ReLU, gain and clamp, one after the other."""
    x = x + b.reshape([-1 if i == 1 else 1 for i in range(x.ndim)])
    return (F.leaky_relu(x, slope) * gain).clamp(-clamp, clamp)


def blurred(x: Tensor, kernel: Tensor, down: int, padding: int) -> Tensor:
    """Zeros around the image, a convolution of each channel with one kernel, and every `down`-th pixel of that."""
    channels = x.shape[1]
    x = F.pad(x, [padding] * 4)
    x = F.conv2d(x, kernel.to(x.dtype).flip([0, 1])[None, None].repeat(channels, 1, 1, 1), groups=channels)
    return x[:, :, ::down, ::down]


class EqualizedFilters(nn.Module):
    """A convolution with the learning rate equalised; `down` blurs and halves the image."""

    def __init__(self, before: int, after: int, size: int, down: int = 1, biased: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(after, before, size, size))
        self.bias = nn.Parameter(torch.zeros(after)) if biased else None
        self.gain, self.down, self.padding = (before * size**2) ** -0.5, down, size // 2
        line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", line.outer(line))

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight.to(x.dtype) * self.gain
        if self.down == 1:
            x = F.conv2d(x, w, padding=self.padding)
        elif w.shape[-1] == 1:
            x = F.conv2d(blurred(x, self.kernel, self.down, 1), w)  # type: ignore[arg-type]
        else:
            x = F.conv2d(blurred(x, self.kernel, 1, self.padding + 1), w, stride=self.down)  # type: ignore[arg-type]
        return x if self.bias is None else bias_act(x, self.bias)


class EqualizedBlock(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = EqualizedFilters(before, before, 3)
        self.second = EqualizedFilters(before, after, 3, down=2)
        self.skip = EqualizedFilters(before, after, 1, down=2, biased=False)

    def forward(self, x: Tensor) -> Tensor:
        return (self.second(self.first(x)) + self.skip(x)) * 0.5**0.5


class StyleGAN2Critic(nn.Module):
    def __init__(self, width: int = 64, group: int = 4) -> None:
        super().__init__()
        self.stem = EqualizedFilters(3, width, 1)
        self.blocks = nn.Sequential(
            EqualizedBlock(width, 2 * width), EqualizedBlock(2 * width, 2 * width), EqualizedBlock(2 * width, 2 * width)
        )
        self.group, self.last = group, EqualizedFilters(2 * width + 1, 2 * width, 3)
        self.weight, self.bias = nn.Parameter(torch.randn(2 * width, 32 * width)), nn.Parameter(torch.zeros(2 * width))
        self.head = nn.Linear(2 * width, 1)

    def with_deviations(self, x: Tensor) -> Tensor:
        """One more channel: the standard deviation over a group of samples."""
        members = x.reshape(self.group, -1, *x.shape[1:])
        deviations = (members.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))
        return torch.cat([x, deviations.repeat(self.group).view(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])], 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.with_deviations(self.blocks(self.stem(x)))).flatten(1)
        x = bias_act(x.matmul((self.weight * self.weight.shape[1] ** -0.5).t()), self.bias)
        return self.head(x)


# --- SNGAN's critic with layers that normalise their own weight ------------------------------------------------------


class NormalisedConv2d(nn.Conv2d):
    """A convolution with the first singular value of its weight divided out, after one step of the power iteration."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.register_buffer("u", F.normalize(torch.randn(self.out_channels), dim=0))

    def normalised_weight(self) -> Tensor:
        matrix = self.weight.flatten(1)
        with torch.no_grad():
            v = F.normalize(matrix.t().mv(self.u), dim=0)  # type: ignore[arg-type]
            u = F.normalize(matrix.mv(v), dim=0)
            if self.training:
                self.u.copy_(u)  # type: ignore[operator]
        return self.weight / u.dot(matrix.mv(v))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.normalised_weight()
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class NormalisedBlock(nn.Module):
    def __init__(self, before: int, after: int, halve: bool, first: bool = False) -> None:
        super().__init__()
        self.halve, self.starts = halve, first
        self.first = NormalisedConv2d(before, after, 3, padding=1)
        self.second = NormalisedConv2d(after, after, 3, padding=1)
        self.skip = NormalisedConv2d(before, after, 1) if halve or before != after else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.second(F.relu(self.first(x if self.starts else F.relu(x))))
        skip = x if self.skip is None else self.skip(x)
        return F.avg_pool2d(h, 2) + F.avg_pool2d(skip, 2) if self.halve else h + skip


class NormalisedCritic(nn.Module):
    def __init__(self, width: int = 128) -> None:
        super().__init__()
        blocks = (NormalisedBlock(3, width, True, first=True), NormalisedBlock(width, width, True))
        self.blocks = nn.Sequential(*blocks, *(NormalisedBlock(width, width, False) for _ in range(2)))
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.blocks(x)).sum((2, 3)))
