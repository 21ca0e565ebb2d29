"""The extragradient method: look ahead by one step, then step along the gradient found there."""

from typing import ClassVar

from fastgan.games.engine import Engine
from fastgan.games.game import Game
from fastgan.games.vectors import plus
from fastgan.losses import Players


class Extragradient(Game):
    """w' = w - lr v(w), then w <- w - lr v(w').

    With Adam for the players it is ExtraAdam (algorithm 4 of the paper): both of its steps update the moments. Each of
    the two gradients is of data of its own (ExtraSGD).

    Args:
        critic, generator: optimisers of the players' parameters.

    Korpelevich 1976; Gidel et al. 2019, arXiv:1802.10551, equations 9 and 10.
    """

    name: ClassVar[str] = "extragradient"
    paper: ClassVar[str] = "Gidel et al. 2019, arXiv:1802.10551"

    def step(self, engine: Engine) -> Players:
        start = self.positions()
        losses = self.differentiate(engine)
        self.descend()
        self.differentiate(engine)
        self.step_from(start)
        return losses


class PastExtragradient(Game):
    """w' = w + the last update, then w <- w - lr v(w'): the look ahead costs no gradient of its own.

    With SGD the last update is -lr v of the last w', as in the paper; with another optimiser, what that made of it.
    The losses that a step returns are those at w'.

    Args:
        critic, generator: optimisers of the players' parameters.

    Popov 1980; Gidel et al. 2019, arXiv:1802.10551, equations 11 and 12.
    """

    name: ClassVar[str] = "past-extragradient"
    paper: ClassVar[str] = "Gidel et al. 2019, arXiv:1802.10551"

    def step(self, engine: Engine) -> Players:
        start = self.positions()
        if "update" in self.memory:
            self.move_to(plus(start, self.recalled("update")))
        losses = self.differentiate(engine)
        self.step_from(start)
        self.memory["update"] = plus(self.positions(), start, -1.0)
        return losses
