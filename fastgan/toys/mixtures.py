"""Mixtures of Gaussians in the plane, and how much of one a generator's samples cover."""

from dataclasses import dataclass

import torch
from torch import Tensor

HIGH_QUALITY = 3.0
"""Standard deviations from a mode within which a sample is of high quality."""


@dataclass(frozen=True)
class Mixture:
    """Equally likely round Gaussians.

    Attributes:
        name: `ring` or `grid`.
        means: float32 [modes, 2].
        std: of each Gaussian in each direction.
    """

    name: str
    means: Tensor
    std: float

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n points, float32 [n, 2]."""
        chosen = torch.randint(len(self.means), (n,), generator=generator)
        return self.means[chosen] + self.std * torch.randn(n, 2, generator=generator, dtype=torch.float32)

    @property
    def scale(self) -> float:
        """The root mean square of a coordinate."""
        return (self.means.square().mean().item() + self.std**2) ** 0.5


def ring() -> Mixture:
    """8 Gaussians of standard deviation 0.01 on the circle of radius 1."""
    angles = torch.arange(8, dtype=torch.float32) * (2 * torch.pi / 8)
    return Mixture("ring", torch.stack([angles.cos(), angles.sin()], dim=1), 0.01)


def grid() -> Mixture:
    """25 Gaussians of standard deviation 0.05 on the points of {-4, -2, 0, 2, 4}^2."""
    marks = torch.arange(-4.0, 5.0, 2.0, dtype=torch.float32)
    return Mixture("grid", torch.cartesian_prod(marks, marks), 0.05)


MIXTURES = {"ring": ring, "grid": grid}


@dataclass(frozen=True)
class ModeCoverage:
    """How much of a mixture samples cover.

    Attributes:
        modes: modes with at least one sample of high quality.
        of: how many there are.
        high_quality: share of the samples that are within 3 standard deviations of a mode.
        kl: KL(high-quality samples per mode || uniform), in nats; infinite if there are none.
    """

    modes: int
    of: int
    high_quality: float
    kl: float


def mode_coverage(mixture: Mixture, samples: Tensor) -> ModeCoverage:
    """Counts the modes that samples [n, 2] cover.

    Srivastava et al. 2017, arXiv:1705.07761, section 5.1.
    """
    distance, nearest = torch.cdist(samples.double(), mixture.means.double()).min(dim=1)
    good = distance <= HIGH_QUALITY * mixture.std
    counts = torch.bincount(nearest[good], minlength=len(mixture.means)).double()
    share = counts / counts.sum()
    kl = torch.special.xlogy(share, share * len(share)).sum().item() if good.any() else float("inf")
    return ModeCoverage(int((counts > 0).sum()), len(mixture.means), good.double().mean().item(), kl)
