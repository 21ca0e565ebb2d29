"""What an objective is: two scalars to minimise, one for each player."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


class Players(NamedTuple):
    """What the two players minimise: scalars."""

    critic: Tensor
    generator: Tensor


@dataclass(frozen=True)
class Loss:
    """An objective of the two players, as pure functions of the critic's logits.

        loss = fastgan.losses.hinge
        loss.critic(real_logits, fake_logits).backward()

    Attributes:
        name: how the Python API and the command line call it.
        critic: (real_logits [B, 1], fake_logits [B, 1]) -> scalar that the critic minimises.
        generator: (fake_logits [B, 1], real_logits [B, 1] or None) -> scalar that the generator minimises. Only a
            paired loss looks at the real logits, which are constants to the generator.
        paper: where the formula stands.
        paired: whether the generator's loss needs the real logits.
    """

    name: str
    critic: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor | None], Tensor]
    paper: str
    paired: bool = False

    def __call__(self, real_logits: Tensor, fake_logits: Tensor) -> Players:
        """Both players' losses; each player differentiates its own."""
        return Players(self.critic(real_logits, fake_logits), self.generator(fake_logits, real_logits))
