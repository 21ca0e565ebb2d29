"""Variance-reduced extragradient (SVRE): minibatch gradients, corrected by their values at a snapshot."""

from collections.abc import Iterable
from typing import ClassVar

from fastgan.games.game import Game
from fastgan.games.player import Closure
from fastgan.games.vectors import plus, times
from fastgan.losses import Players


class VarianceReducedExtragradient(Game):
    """Extragradient steps along d(w) = v_batch(w) - v_batch(snapshot) + v_all(snapshot).

    `snapshot` is called once an epoch, with the closures of all batches of the data; `step` before it raises. All calls
    of a step's closures draw the same from PyTorch's global generators, so that the correction is of the same dropout
    and noise. The correction's noise vanishes as w comes near the snapshot: on strongly monotone games it converges
    linearly, where extragradient with minibatches does not.

    Args:
        critic, generator: optimisers of the players' parameters.

    Chavdarova et al. 2019, arXiv:1904.08598, algorithm 1; here one batch serves both halves of a step.
    """

    name: ClassVar[str] = "variance-reduced"
    paper: ClassVar[str] = "Chavdarova et al. 2019, arXiv:1904.08598"
    replays = True

    def snapshot(self, batches: Iterable[tuple[Closure, Closure]]) -> None:
        """Remembers the parameters and both players' gradients there, averaged over batches of equal size.

        Args:
            batches: (critic's closure, generator's closure) of each batch of the data.

        Raises:
            ValueError: there is none.
        """
        count, total = 0, None
        for critic, generator in batches:
            self.differentiate(critic, generator)
            gradients = self.loss_gradients()
            total = gradients if total is None else plus(total, gradients)
            count += 1
        if total is None:
            raise ValueError("VarianceReducedExtragradient: batches is empty, expected those of the whole data")
        self.memory["snapshot"], self.memory["mean"] = self.positions(), times(total, 1 / count)

    def step(self, critic: Closure, generator: Closure) -> Players:
        if "snapshot" not in self.memory:
            raise RuntimeError("VarianceReducedExtragradient: step before snapshot, expected one at each epoch's start")
        snapshot, mean = self.recalled("snapshot"), self.recalled("mean")
        critic, generator = self.replayed(critic, generator)
        start = self.positions()
        losses = self.differentiate(critic, generator)
        here = self.gradients()
        self.move_to(snapshot)
        self.differentiate(critic, generator)
        correction = plus(mean, self.loss_gradients(), -1.0)  # decay has no noise to reduce
        self.move_to(start)
        self.descend_along(plus(here, correction))
        self.differentiate(critic, generator)
        gradients = plus(self.gradients(), correction)
        self.move_to(start)
        self.descend_along(gradients)
        return losses
