"""Mixtures of Gaussians in the plane, and how much of one a generator's samples cover."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fastgan.errors import UserError

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


class MixtureSource:
    """Points of a mixture, divided by its scale: every batch is drawn anew, so that none is seen twice.

    Args:
        name: a key of `MIXTURES`.

    Attributes:
        mixture: what is drawn from.

    Raises:
        UserError: there is no such mixture.
    """

    classes: tuple[str, ...] = ()
    class_counts = torch.zeros(0, dtype=torch.int64)
    digest = ""

    def __init__(self, name: str) -> None:
        if name not in MIXTURES:
            raise UserError(f"the data are {name!r}, expected one of {', '.join(MIXTURES)}: the task is of points")
        self.name, self.mixture = name, MIXTURES[name]()

    def __len__(self) -> int:
        """Points in an epoch, for those who count in epochs."""
        return EPOCH

    def read(self, indices: Tensor, seed: int) -> dict[str, Tensor]:
        """`image`: as many points as indices, float32 [B, 2], that depend on the seed alone."""
        points = self.mixture.sample(len(indices), torch.Generator().manual_seed(seed))
        return {"image": points / self.mixture.scale}

    def summary(self) -> str:
        return f"{self.name}: a mixture of {len(self.mixture.means)} Gaussians in the plane"


EPOCH = 12_800
"""50 batches of 256."""


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
