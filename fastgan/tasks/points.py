"""`Points`: a GAN of points in the plane, on a mixture of Gaussians whose modes can be counted."""

from collections.abc import Mapping

import torch
from torch import Tensor

from fastgan.data.mixtures import MixtureSource, ModeCoverage, mode_coverage
from fastgan.errors import UserError
from fastgan.nn import PackedCritic
from fastgan.tasks.gan import GAN
from fastgan.tasks.task import Source

REACH, PIXELS, SHOWN = 1.25, 256, 2000


class Points(GAN):
    """A GAN whose samples are points in the plane, at the scale of `MixtureSource`: arguments as `GAN`."""

    images_from_noise = False

    @torch.no_grad()
    def judge(self, points: Tensor) -> Tensor:
        """The critic's outputs at points [n, 2]: [n]. A critic of packs sees each as often as a pack has samples."""
        critic = self.critics["critic"]
        m = critic.m if isinstance(critic, PackedCritic) else 1
        return critic(points.repeat_interleave(m, dim=0)).flatten()

    def coverage(self, source: MixtureSource, n: int = 2500, seed: int = 1) -> ModeCoverage:
        """How much of a mixture n samples cover."""
        return mode_coverage(source.mixture, self.sample(n, seed) * source.mixture.scale)

    def picture(self, given: Mapping[str, Tensor], seed: int = 0) -> Tensor:
        """2,000 samples, white on black, in a square that holds the data."""
        reach = REACH * given["image"].abs().max()
        places = ((self.sample(SHOWN, seed) / reach + 1) / 2 * PIXELS).floor().nan_to_num(-1)
        inside = places[((places >= 0) & (places < PIXELS)).all(1)].long()
        picture = torch.zeros(1, PIXELS, PIXELS, dtype=torch.uint8)
        picture[0, PIXELS - 1 - inside[:, 1], inside[:, 0]] = 255
        return picture

    def measure(self, sources: Mapping[str, Source], n: int, seed: int = 0) -> dict[str, float]:
        """Modes covered, the share of samples of high quality, and the KL divergence of the modes' shares."""
        source = sources["image"]
        if not isinstance(source, MixtureSource):
            raise UserError(f"the data are {source.name}, expected a mixture, whose modes can be counted")
        found = self.coverage(source, n, seed)
        return {"modes": found.modes, "of": found.of, "high_quality": found.high_quality, "kl": found.kl}
