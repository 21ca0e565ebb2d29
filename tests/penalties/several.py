"""Critics of several numbers per sample, and the textbook of their loss and penalties.

The textbook is written for each kind by itself: which numbers are judged, and what the loss is, as a user would.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from fastgan.ops import interpolation_weights


def patchgan(norm: Callable[[int], nn.Module] | None = None, width: int = 4) -> nn.Module:
    """pix2pix's critic of 70x70 patches (Isola et al. 2017, arXiv:1611.07004, section 6.1.2)."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2, True)]
    for before, after, stride in ((width, 2 * width, 2), (2 * width, 4 * width, 2), (4 * width, 8 * width, 1)):
        layers += [nn.Conv2d(before, after, 4, stride, 1, bias=norm is None)]
        layers += [norm(after)] if norm else []
        layers += [nn.LeakyReLU(0.2, True)]
    return nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, 1, 1))


class MultiScale(nn.Module):
    """The same critic at coarser and coarser scales (Wang et al. 2018, arXiv:1711.11585): a list of maps."""

    def __init__(self) -> None:
        super().__init__()
        self.critics = nn.ModuleList(
            nn.Sequential(nn.Conv2d(3, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3)) for _ in range(2)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        return [critic(F.avg_pool2d(x, 2**i)) if i else critic(x) for i, critic in enumerate(self.critics)]


class MultiPeriod(nn.Module):
    """HiFi-GAN's critic of periods (Kong et al. 2020, arXiv:2010.05646): (logits, feature maps), lists of both."""

    def __init__(self, periods: tuple[int, ...] = (2, 3)) -> None:
        super().__init__()
        self.periods = periods
        self.layers = nn.ModuleList(
            nn.ModuleList(
                parametrizations.weight_norm(layer)
                for layer in (nn.Conv2d(1, 4, (5, 1), (3, 1), (2, 0)), nn.Conv2d(4, 6, (5, 1), 1, (2, 0)),
                              nn.Conv2d(6, 1, (3, 1), 1, (1, 0)))
            )
            for _ in periods
        )  # fmt: skip

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[list[Tensor]]]:
        logits, features = [], []
        for period, (first, second, last) in zip(self.periods, self.layers, strict=True):
            h = F.pad(x, (0, -x.shape[2] % period), "reflect").unflatten(2, (-1, period))
            maps = []
            for layer in (first, second):
                h = F.leaky_relu(layer(h), 0.1)
                maps.append(h)
            h = last(h)
            maps.append(h)
            logits.append(h.flatten(1))
            features.append(maps)
        return logits, features


class UNet(nn.Module):
    """A logit and a map of the image's size (Schönfeld et al. 2020, arXiv:2002.12655)."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.below, self.logit = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1), nn.Linear(6, 1)
        self.up, self.map = nn.Conv2d(6, 4, 3, padding=1), nn.Conv2d(11, 1, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a = F.leaky_relu(self.down(x), 0.2)
        b = F.leaky_relu(self.below(a), 0.2)
        c = F.leaky_relu(self.up(F.interpolate(b, scale_factor=2, mode="bilinear")), 0.2)
        c = F.interpolate(torch.cat([a, c], 1), scale_factor=2)
        return self.logit(b.sum((2, 3))), self.map(torch.cat([x, c], 1))


class Heads(nn.Module):
    """A dict: a logit, class logits, and features."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.logit, self.classes = nn.Conv2d(3, 4, 3, 2), nn.Linear(36, 1), nn.Linear(36, 5)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = F.leaky_relu(self.stem(x), 0.2).flatten(1)
        return {"features": h, "logit": self.logit(h), "classes": self.classes(h)}


class WithFeatures(Heads):
    """(logits, features)."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        found = super().forward(x)
        return found["logit"].squeeze(1), found["features"]


class Projected(nn.Module):
    """A map that depends on labels, and a number of the label for each sample."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.map, self.embed = nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 1, 1), nn.Embedding(5, 4)

    def forward(self, x: Tensor, y: Tensor) -> list[Tensor]:
        h = F.relu(self.stem(x))
        return [self.map(h), (self.embed(y) * h.mean((2, 3))).sum(1)]


Pairs = Callable[[Callable[[Tensor, Tensor], Tensor], Any, Any], Tensor]


@dataclass(frozen=True)
class Kind:
    """A critic of several numbers per sample.

    Attributes:
        judge: of critic_loss.
        judged: the same tensors, by hand.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    judge: Any
    judged: Callable[[Any], list[Tensor]]
    affine: bool = True
    labels: bool = False


KINDS: dict[str, Kind] = {
    "patchgan": Kind(patchgan, (3, 32, 32), None, lambda y: [y]),
    "instance norm": Kind(lambda: patchgan(nn.InstanceNorm2d), (3, 32, 32), None, lambda y: [y], affine=False),
    "batch norm": Kind(lambda: patchgan(nn.BatchNorm2d), (3, 32, 32), None, lambda y: [y], affine=False),
    "multi-scale": Kind(MultiScale, (3, 16, 16), None, lambda y: [y[0], y[1]]),
    "multi-period": Kind(MultiPeriod, (1, 41), 0, lambda y: [y[0][0], y[0][1]]),
    "u-net": Kind(UNet, (3, 8, 8), None, lambda y: [y[0], y[1]]),
    "u-net's map": Kind(UNet, (3, 8, 8), 1, lambda y: [y[1]]),
    "a dict": Kind(Heads, (3, 8, 8), "logit", lambda y: [y["logit"]]),
    "several of a dict": Kind(
        Heads, (3, 8, 8), lambda y: [y["logit"], y["classes"]], lambda y: [y["logit"], y["classes"]]
    ),
    "features": Kind(WithFeatures, (3, 8, 8), 0, lambda y: [y[0]]),
    "labels": Kind(Projected, (3, 8, 8), None, lambda y: [y[0], y[1]], labels=True),
}


def norms(kind: Kind, critic: nn.Module, x: Tensor, rest: tuple, reduce: str) -> tuple[Any, Tensor]:
    x = x.detach().requires_grad_()
    output = critic(x, *rest)
    rows = [t.reshape(len(x), -1) for t in kind.judged(output)]
    numbers = [t.sum(1) if reduce == "sum" else t.mean(1) for t in rows]
    (g,) = torch.autograd.grad(sum(n.sum() for n in numbers), x, create_graph=True)
    return output, g.flatten(1).norm(2, dim=1)


def textbook(
    kind: Kind,
    critic: nn.Module,
    real: Tensor,
    fake: Tensor,
    rest: tuple,
    loss: Callable[[Any, Any], Tensor],
    penalties: dict[str, float],
    reduce: str = "sum",
) -> tuple[Tensor, list[Any]]:
    """Loss plus penalties in plain PyTorch, and the outputs."""
    d_real, n_real = norms(kind, critic, real, rest, reduce) if "r1" in penalties else (critic(real, *rest), None)
    d_fake, n_fake = norms(kind, critic, fake, rest, reduce) if "r2" in penalties else (critic(fake, *rest), None)
    total = loss(d_real, d_fake)
    if n_real is not None:
        total = total + penalties["r1"] / 2 * n_real.square().mean()
    if n_fake is not None:
        total = total + penalties["r2"] / 2 * n_fake.square().mean()
    for name in ("wgan-gp", "dragan"):
        if name not in penalties:
            continue
        if name == "dragan":
            points = real + torch.randn_like(real) * (0.5 * real.std(correction=0))
        else:
            eps = interpolation_weights(torch.randint(2**62, (1,)), len(real), real.device).to(real.dtype)
            eps = eps.view(-1, *[1] * (real.ndim - 1))
            points = eps * real + (1 - eps) * fake
        _, norm = norms(kind, critic, points, rest, reduce)
        total = total + penalties[name] * (norm - 1).square().mean()
    return total, [d_real, d_fake]
