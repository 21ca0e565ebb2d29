"""What the recipes of a generator and a critic have in common: their objective, and what is added to it."""

from typing import Annotated, Any

from pydantic import Field
from torch import Tensor, nn

from fastgan.errors import UserError, nearest, wrong
from fastgan.nn import InstanceNoise, PackedCritic
from fastgan.penalties import Penalty, parse
from fastgan.penalties.choice import METHODS
from fastgan.train.schedules import value_at
from fastgan.train.sections import Real, Section, moving
from fastgan.train.settings import Count

Weight = Annotated[Real, Field(ge=0)]


class Objective(Section):
    """What a generator and a critic minimise, and what the critic is wrapped in."""

    loss: str = "nonsaturating"
    """The objective: hinge, wasserstein, fgan:kl, mmd, label_smoothing:0.9:minimax, ... (docs/objectives.md)."""
    penalty: str = ""
    """The critic's gradient penalties with their weights: r1:10,r2:10, wgan-gp:10, dragan; empty for none."""
    penalty_every: Count = 1
    """Steps between two with penalties, which then weigh as many times as much."""
    penalty_method: str = "auto"
    """How their gradient is computed: auto, one_pass, double_backward, directional, random_probe."""
    penalty_weight: moving(0) = 1.0  # type: ignore[valid-type]
    """Factor of the penalties; may follow a schedule."""
    orthogonal: Weight = 0.0
    """Strength of BigGAN's orthogonal regularisation of the generator's weights (there 1e-4); 0 for none."""
    clip_weights: Weight = 0.0
    """Largest size of the critic's weights, clipped after each of its updates (WGAN: 0.01); 0 for none."""
    spectral_norm: bool = False
    """Whether the critic's weights are divided by their largest singular values."""
    pack: Count = 1
    """Samples that the critic judges together (PacGAN), a divisor of run.batch_size; 1 for one at a time."""
    instance_noise: moving(0) = 0.0  # type: ignore[valid-type]
    """Standard deviation of the noise on the critic's input; may follow a schedule: {from: 0.5, to: 0, over: 3000}."""

    def penalties(self) -> tuple[Penalty, ...]:
        """The gradient penalties. Raises UserError where there are none such, or an interval without any."""
        try:
            found = parse(self.penalty)
        except ValueError as error:
            raise UserError(f"task.penalty is {self.penalty!r}: {error}") from None
        if self.penalty_method not in METHODS:
            raise wrong("task.penalty_method", self.penalty_method, nearest(self.penalty_method, METHODS))
        if self.penalty_every != 1 and not found:
            raise wrong("task.penalty_every", self.penalty_every, "1 without task.penalty, of which it is the interval")
        if self.clip_weights and self.spectral_norm:
            raise wrong("task.clip_weights", self.clip_weights, "0: task.spectral_norm bounds the same weights")
        return found

    def arguments(self) -> dict[str, Any]:
        """What a GAN is told besides its networks and objective."""
        chosen = {"penalties": self.penalties(), "orthogonal": self.orthogonal, "clip_weights": self.clip_weights}
        for name in ("penalty_every", "penalty_method", "penalty_weight"):
            chosen[name] = getattr(self, name)
        noise = {"instance_noise": self.instance_noise} if self.instance_noise else {}
        return {**chosen, **noise}

    def wrapped(self, critic: nn.Module) -> nn.Module:
        """The critic behind noise, where there is some."""
        return BehindNoise(InstanceNoise(value_at(self.instance_noise, 0)), critic) if self.instance_noise else critic

    def packed(self, critic: nn.Module) -> nn.Module:
        """The critic of packs, where it is one."""
        return PackedCritic(critic, self.pack) if self.pack > 1 else critic


class BehindNoise(nn.Sequential):
    """Noise, then a critic, which may be called with labels besides."""

    def forward(self, images: Tensor, *labels: Tensor) -> Tensor:
        noise, critic = self
        return critic(noise(images), *labels)
