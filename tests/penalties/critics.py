"""Critics of every kind that users write, and the textbook gradient of loss plus penalties to hold them against."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import fastgan
from fastgan.ops import interpolation_weights

CLASSES = 5


@dataclass(frozen=True)
class Kind:
    """A critic: how to build it and what a batch of its input looks like."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    labels: bool = False


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.LeakyReLU(0.1), nn.Linear(16, 1))


def dcgan() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(8, 16, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(16, 1, 2),
    )  # fmt: skip


class Block(nn.Module):
    """Pre-activation residual block with a pooled skip."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(channels, out, 3, padding=1), nn.Conv2d(out, out, 3, padding=1)
        self.skip = nn.Conv2d(channels, out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.second(F.leaky_relu(self.first(F.leaky_relu(x, 0.2)), 0.2, inplace=True))
        return (F.avg_pool2d(h, 2) + F.avg_pool2d(self.skip(x), 2)) / 2**0.5


def resnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), Block(6, 8), Block(8, 10), nn.LeakyReLU(0.2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(10, 1),
    )  # fmt: skip


class GroupedBlock(nn.Module):
    """1x1, grouped 3x3, 1x1 with a skip, as in R3GAN."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, 2 * channels, 1, bias=False)
        self.mix = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=channels // 2, bias=False)
        self.shrink = nn.Conv2d(2 * channels, channels, 1, bias=False)
        self.bias = nn.Parameter(0.1 * torch.randn(2, 2 * channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.expand(x) + self.bias[0], 0.2)
        return x + self.shrink(F.leaky_relu(self.mix(h) + self.bias[1], 0.2))


def grouped() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 1), GroupedBlock(8), nn.Upsample(scale_factor=0.5, mode="bilinear"), GroupedBlock(8),
        nn.Conv2d(8, 8, 4, groups=8), nn.Flatten(), nn.Linear(8, 1, bias=False),
    )  # fmt: skip


def normalised(norm: Callable[[nn.Module], nn.Module]) -> nn.Module:
    critic = dcgan()
    for i in (0, 2, 4):
        critic[i] = norm(critic[i])
    return critic


class Projection(nn.Module):
    """Miyato & Koyama 2018: D(x, y) = <embed(y), phi(x)> + psi(phi(x)), here with a bias for each class too."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU())
        self.head, self.embed, self.shift = nn.Linear(8, 1), nn.Embedding(CLASSES, 8), nn.Embedding(CLASSES, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h = self.features(x).sum((2, 3))
        return self.head(h) + (self.embed(y) * h).sum(1, keepdim=True) + self.shift(y)


class LabelMap(nn.Module):
    """The label as another channel."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(CLASSES, 64)
        self.layers = nn.Sequential(nn.Conv2d(4, 8, 3, 2), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(72, 1))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.layers(torch.cat([x, self.embed(y).view(-1, 1, 8, 8)], dim=1)).squeeze(1)


class Equalised(nn.Module):
    """Equalised learning rate and weight standardisation: the weight is computed in forward."""

    def __init__(self, standardise: bool) -> None:
        super().__init__()
        self.weights = nn.ParameterList([torch.randn(8, 3, 3, 3), torch.randn(4, 8, 3, 3), torch.randn(1, 64)])
        self.biases = nn.ParameterList([torch.randn(8), torch.randn(4), torch.randn(1)])
        self.standardise = standardise

    def weight(self, i: int) -> Tensor:
        w = self.weights[i]
        if self.standardise and w.ndim == 4:
            w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5)
        return w * w[0].numel() ** -0.5

    def forward(self, x: Tensor) -> Tensor:
        for i in (0, 1):
            x = F.leaky_relu(F.conv2d(x, self.weight(i), self.biases[i] * 0.1), 0.2) * 2**0.5
        return F.linear(x.reshape(len(x), -1), self.weight(2), self.biases[2])


class MaxPooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 2), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(F.max_pool2d(self.first(x), 2))
        return self.head(self.second(h).amax((2, 3)))


class Functional(nn.Module):
    """Every piecewise linear function, called by name."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 8), *(nn.Linear(8, 8) for _ in range(11)), nn.Linear(8, 1)])
        self.slopes, self.floor = nn.Parameter(torch.rand(8)), nn.Parameter(torch.randn(8))

    def forward(self, x: Tensor) -> Tensor:
        acts = (
            torch.relu, F.relu6, F.hardtanh, torch.abs, lambda h: F.prelu(h, self.slopes), lambda h: h.clamp(-0.5, 0.7),
            lambda h: h.clamp(min=-0.3), lambda h: torch.maximum(h, self.floor), lambda h: F.threshold(h, 0.1, -0.2),
            lambda h: torch.where(h > 0, h, 0.3 * h + 0.1), lambda h: torch.minimum(h, -h),
            lambda h: torch.max(h, torch.zeros_like(h)),
        )  # fmt: skip
        for layer, act in zip(self.layers[:-1], acts, strict=True):
            x = act(layer(x)) + 0.1 * layer(x)[:, :8]
        return self.layers[-1](x)


def audio() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(1, 6, 25, 4, 11), nn.LeakyReLU(0.2), nn.ReflectionPad1d(2), nn.Conv1d(6, 8, 9, 4, dilation=2),
        nn.LeakyReLU(0.2), nn.AvgPool1d(2), nn.Flatten(), nn.LazyLinear(1),
    )  # fmt: skip


class Shared(nn.Module):
    """One convolution called twice, at two resolutions, and weights used in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.stem(x), 0.2)
        h = h + F.leaky_relu(self.conv(h), 0.2)
        h = F.avg_pool2d(h, 2)
        h = h + F.leaky_relu(self.conv(h), 0.2)
        return (h * self.conv.bias.view(-1, 1, 1)).mean((1, 2, 3)) + self.stem.bias.sum()


def frozen() -> nn.Module:
    critic = resnet()
    for name, parameter in critic.named_parameters():
        parameter.requires_grad_(not (name.startswith("0.") or name in ("1.first.weight", "2.second.bias")))
    return critic


def fused() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), fastgan.nn.BiasAct(8, clamp=0.6),
        nn.Conv2d(8, 8, 3, bias=False), fastgan.nn.BiasAct(8, act="relu"),
        nn.Flatten(), nn.Linear(128, 4, bias=False), fastgan.nn.BiasAct(4, act="linear"), nn.Linear(4, 1),
    )  # fmt: skip


def evaluating() -> nn.Module:
    """Batch norm with fixed statistics, the dropout off."""
    critic = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5),
        nn.Flatten(), nn.BatchNorm1d(288, affine=False), nn.Linear(288, 1),
    )  # fmt: skip
    critic(torch.randn(16, 3, 8, 8))
    return critic.eval()


class Noisy(nn.Module):
    """Instance noise and dropout: random, but constants of x."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.LeakyReLU(0.2), nn.Dropout2d(0.3), nn.Flatten(), nn.Dropout(0.3), nn.Linear(288, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x + 0.1 * torch.randn_like(x))


class Folding(nn.Module):
    """Blurs each channel by itself, folded into the batch, then treats positions as tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.tokens, self.head = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6, 6), nn.Linear(6, 1)
        self.register_buffer("blur", torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])[None, None] / 16)

    def forward(self, x: Tensor) -> Tensor:
        h = F.pad(F.relu(self.stem(x)), (1, 1, 1, 1), value=0.3)
        h = F.conv2d(h.reshape(-1, 1, 10, 10), self.blur, stride=2).view(len(x), 6, 4, 4)
        h = h.flatten(2).transpose(1, 2)  # [B, tokens, channels]
        h = F.relu(self.tokens(h)) + h.flip(1)
        return self.head(h.permute(1, 0, 2)[3] + h.mean(1))


class Moves(nn.Module):
    """Slices, stacks, shuffles, a transposed convolution and in-place arithmetic."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.up, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.ConvTranspose2d(4, 4, 4, 2, 1), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = F.leaky_relu(self.stem(x), 0.2).chunk(2, dim=1)
        h = torch.stack([a, b, a - b], dim=1)[:, 1:].sum(1)
        h = F.pixel_unshuffle(F.interpolate(self.up(h), scale_factor=2, mode="nearest"), 4)
        h = h[:, :, ::2, [0, 1]].contiguous()
        h *= 0.5
        h += 0.1
        h = F.relu_(h - 0.2)
        return self.head(h.view(len(x), 64, -1).mean(2)[:, 10:26]).view(-1)


CRITICS: dict[str, Kind] = {
    "mlp": Kind(mlp, (6,)),
    "dcgan": Kind(dcgan, (3, 8, 8)),
    "resnet": Kind(resnet, (3, 8, 8)),
    "grouped": Kind(grouped, (3, 8, 8)),
    "spectral norm": Kind(lambda: normalised(parametrizations.spectral_norm), (3, 8, 8)),
    "spectral norm, hooks": Kind(lambda: normalised(nn.utils.spectral_norm), (3, 8, 8)),
    "weight norm": Kind(lambda: normalised(parametrizations.weight_norm), (3, 8, 8)),
    "projection": Kind(Projection, (3, 8, 8), labels=True),
    "label map": Kind(LabelMap, (3, 8, 8), labels=True),
    "equalised": Kind(lambda: Equalised(False), (3, 8, 8)),
    "weight standardisation": Kind(lambda: Equalised(True), (3, 8, 8)),
    "max-pool": Kind(MaxPooled, (3, 8, 8)),
    "functional": Kind(Functional, (6,)),
    "audio": Kind(audio, (1, 256)),
    "shared": Kind(Shared, (3, 8, 8)),
    "frozen": Kind(frozen, (3, 8, 8)),
    "bias_act": Kind(fused, (3, 8, 8)),
    "batch norm, evaluating": Kind(evaluating, (3, 8, 8)),
    "noise and dropout": Kind(Noisy, (3, 8, 8)),
    "folding": Kind(Folding, (3, 8, 8)),
    "moves": Kind(Moves, (3, 8, 8)),
}


def build(kind: Kind, dtype: torch.dtype = torch.float64) -> nn.Module:
    critic = kind.build()
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in critic.parameters()):
        critic(torch.zeros(2, *kind.shape))
    return critic.to(dtype)


def batch(kind: Kind, samples: int = 6, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Any]:
    """real, fake, labels (None for a critic without)."""
    real = torch.randn(samples, *kind.shape, dtype=dtype)
    fake = 0.7 * torch.randn(samples, *kind.shape, dtype=dtype) + 0.2
    return real, fake, torch.randint(CLASSES, (samples,)) if kind.labels else None


# --- the textbook -----------------------------------------------------------------------------------------------------


def _norms(critic: nn.Module, x: Tensor, rest: tuple) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    output = critic(x, *rest)
    (g,) = torch.autograd.grad(output.sum(), x, create_graph=True)
    return output, g.flatten(1).norm(2, dim=1)


def textbook(
    critic: nn.Module,
    real: Tensor,
    fake: Tensor,
    labels: Any,
    loss: Callable[[Tensor, Tensor], Tensor],
    r1: float = 0,
    r2: float = 0,
    wgan_gp: float = 0,
    target: float = 1,
    one_sided: bool = False,
) -> Tensor:
    """Loss plus penalties in plain PyTorch, differentiated twice by autograd; random numbers in critic_loss's order."""
    rest = () if labels is None else (labels,)
    d_real, norm_real = _norms(critic, real, rest) if r1 else (critic(real, *rest), None)
    d_fake, norm_fake = _norms(critic, fake, rest) if r2 else (critic(fake, *rest), None)
    total = loss(d_real, d_fake)
    if r1:
        total = total + r1 / 2 * norm_real.square().mean()
    if r2:
        total = total + r2 / 2 * norm_fake.square().mean()
    if wgan_gp:
        seed = torch.randint(2**62, (1,))
        eps = interpolation_weights(seed, len(real), real.device).to(real.dtype).view(-1, *[1] * (real.ndim - 1))
        _, norm = _norms(critic, eps * real + (1 - eps) * fake, rest)
        excess = norm - target
        total = total + wgan_gp * (excess.clamp(min=0) if one_sided else excess).square().mean()
    return total


def gradients(critic: nn.Module, total: Tensor) -> dict[str, Tensor]:
    """What `.backward()` deposits; zeros where nothing."""
    critic.zero_grad()
    total.backward()
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in critic.named_parameters()
        if p.requires_grad
    }


def relative_error(found: dict[str, Tensor], truth: dict[str, Tensor]) -> float:
    """The largest difference of a tensor's gradient, over the largest gradient in that tensor (or, where it is all but
    zero, in the network)."""
    assert found.keys() == truth.keys()
    overall = max(t.abs().max().item() for t in truth.values())
    return max((found[n] - t).abs().max().item() / max(t.abs().max().item(), 1e-3 * overall) for n, t in truth.items())
