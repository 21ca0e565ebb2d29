"""Lookahead-minmax: run another method for k steps, then go back most of the way."""

from typing import Any, ClassVar

import torch
from torch.optim import Optimizer

from fastgan._torch_private import foreach_lerp
from fastgan.games.alternating import Alternating
from fastgan.games.checks import count, within
from fastgan.games.engine import Engine
from fastgan.games.game import Game
from fastgan.losses import Players


class Lookahead(Game):
    """After every k steps of another method, w <- w_slow + alpha (w - w_slow), and w_slow <- w; both players at once.

    A method that circles the equilibrium is pulled inside its circle. The slow parameters are those at which the k
    steps begin, whatever has been done to them since the last ones ended (clipping, say). With another Lookahead as the
    inner method it is the paper's nested variant.

    Args:
        critic, generator: optimisers of the players' parameters.
        k: steps of the inner method between two of the slow parameters.
        alpha: how far the slow parameters follow, above 0 and at most 1.
        inner: the inner method, a class or function of the two optimisers; alternating descent as in the paper.

    Attributes:
        inner: the inner game, over the same optimisers.

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
        if not alpha:
            raise ValueError(f"Lookahead: alpha is {alpha!r}, expected a number above 0: with 0 nothing ever moves")
        self.inner: Game = inner(critic, generator)
        self.second_order, self.replays = self.inner.second_order, self.inner.replays

    def step(self, engine: Engine) -> Players:
        (taken,) = self.memory.setdefault("inner_steps", [torch.zeros([], dtype=torch.int64)])
        if taken % self.k == 0:
            self.memory["slow"] = self.positions()
        losses = self.inner.step(engine)
        taken += 1
        if taken % self.k == 0:
            self.move_to(list(foreach_lerp(self.recalled("slow"), self.positions(), self.alpha)))
        return losses

    def memories(self) -> dict[str, Any]:
        return {**super().memories(), "inner": self.inner.memories()}

    def load_memories(self, state: dict[str, Any]) -> None:
        own, inner = dict(state["memory"]), state.get("inner")
        if inner is None:  # written when both games had one memory
            inner = {"memory": {name: own.pop(name) for name in own.keys() - {"slow", "inner_steps"}}}
        super().load_memories({"memory": own})
        self.inner.load_memories(inner)
