"""Lookahead-minmax: run another method for k steps, then go back most of the way."""

from typing import Any, ClassVar

import torch
from torch.optim import Optimizer

from fastgan.games.alternating import Alternating
from fastgan.games.checks import count, within
from fastgan.games.game import Game
from fastgan.games.player import Closure
from fastgan.losses import Players


class Lookahead(Game):
    """After every k steps of another method, w <- w_slow + alpha (w - w_slow), and w_slow <- w; both players at once.

    A method that circles the equilibrium is pulled inside its circle.

    Args:
        critic, generator: optimisers of the players' parameters.
        k: steps of the inner method between two of the slow parameters.
        alpha: how far the slow parameters follow.
        inner: the inner method, a class or function of the two optimisers; alternating descent as in the paper.

    Chavdarova et al. 2021, arXiv:2006.14567, algorithm 1.
    """

    name: ClassVar[str] = "lookahead"
    paper: ClassVar[str] = "Chavdarova et al. 2021, arXiv:2006.14567"
    settings: ClassVar[tuple[str, ...]] = ("k", "alpha")

    def __init__(
        self, critic: Optimizer, generator: Optimizer, k: int = 5, alpha: float = 0.5, inner: Any = Alternating
    ) -> None:
        super().__init__(critic, generator)
        self.k = count("Lookahead", "k", k)
        self.alpha = within("Lookahead", "alpha", alpha, 0, 1)
        self.inner: Game = inner(critic, generator)
        self.second_order, self.replays = self.inner.second_order, self.inner.replays

    def step(self, critic: Closure, generator: Closure) -> Players:
        self.inner.memory = self.memory  # one for both, so that one state_dict has it all
        if "slow" not in self.memory:
            self.memory |= {"slow": self.positions(), "inner_steps": [torch.zeros([], dtype=torch.int64)]}
        losses = self.inner.step(critic, generator)
        self.memory["inner_steps"][0] += 1
        if self.memory["inner_steps"][0] % self.k == 0:
            slow = self.memory["slow"]
            torch._foreach_lerp_(slow, self.positions(), self.alpha)
            self.move_to(slow)
        return losses
