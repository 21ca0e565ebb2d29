"""Optimistic descent: each step is made twice, and the last one is taken back."""

from typing import ClassVar

from fastgan.games.engine import Engine
from fastgan.games.game import Game
from fastgan.games.vectors import plus
from fastgan.losses import Players


class Optimistic(Game):
    """w <- w + 2 u - u', where u is the optimiser's step at w and u' the one before.

    With SGD it is optimistic mirror descent, w - 2 lr v(w) + lr v(w'); with Adam, Optimistic Adam (algorithm 1).

    Args:
        critic, generator: optimisers of the players' parameters.

    Daskalakis et al. 2018, arXiv:1711.00141, equation 3 and algorithm 1.
    """

    name: ClassVar[str] = "optimistic"
    paper: ClassVar[str] = "Daskalakis et al. 2018, arXiv:1711.00141"

    def step(self, engine: Engine) -> Players:
        start = self.positions()
        losses = self.differentiate(engine)
        self.descend()
        update = plus(self.positions(), start, -1.0)
        end = plus(start, update, 2.0)
        if "update" in self.memory:
            end = plus(end, self.recalled("update"), -1.0)
        self.move_to(end)
        self.memory["update"] = update
        return losses
