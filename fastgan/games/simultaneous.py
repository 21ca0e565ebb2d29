"""Simultaneous gradient descent: both players step at once, from the same place."""

from typing import ClassVar

from fastgan.games.engine import Engine
from fastgan.games.game import Game
from fastgan.losses import Players


class Simultaneous(Game):
    """w <- w - lr v(w), v = (grad_critic L_critic, grad_generator L_generator).

    On V(x, y) = -xy it leaves the equilibrium by sqrt(1 + lr^2) in every step. Two learning rates (two time scales)
    are those of the two optimisers: Heusel et al. 2017, arXiv:1706.08500.

    Args:
        critic, generator: optimisers of the players' parameters.

    Mescheder et al. 2017, arXiv:1705.10461, section 2.2.
    """

    name: ClassVar[str] = "simultaneous"
    paper: ClassVar[str] = "Mescheder et al. 2017, arXiv:1705.10461"

    def step(self, engine: Engine) -> Players:
        losses = self.differentiate(engine)
        self.descend()
        return losses
