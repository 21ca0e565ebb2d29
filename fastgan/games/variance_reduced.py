"""Variance-reduced extragradient (SVRE): minibatch gradients, corrected by their values at a snapshot."""

from typing import ClassVar

import torch

from fastgan.games.engine import Engine
from fastgan.games.game import Game
from fastgan.games.vectors import plus, times
from fastgan.losses import Players


class VarianceReducedExtragradient(Game):
    """Extragradient steps along d(w) = v_batch(w) - v_batch(snapshot) + v_all(snapshot).

    A step takes the snapshot first, over all data, where there is none, and again after as many steps as the data have
    batches. The correction is of the step's own batch, with the same dropout and noise. Its noise vanishes as w comes
    near the snapshot: on strongly monotone games it converges linearly, where extragradient with minibatches does not.

    Args:
        critic, generator: optimisers of the players' parameters.

    Chavdarova et al. 2019, arXiv:1904.08598, algorithm 1; here one batch serves both halves of a step.
    """

    name: ClassVar[str] = "variance-reduced"
    paper: ClassVar[str] = "Chavdarova et al. 2019, arXiv:1904.08598"
    replays, keeps_mean = True, True

    def step(self, engine: Engine) -> Players:
        if self._is_due():
            self.snapshot(engine)
        snapshot, mean = self.recalled("snapshot"), self.recalled("mean")
        batch, start = engine.batch(), self.positions()
        losses = self.differentiate(engine, batch)
        here = self.gradients()
        self.move_to(snapshot)
        self.differentiate(engine, batch)
        correction = plus(mean, self.loss_gradients(), -1.0)  # decay has no noise to reduce
        self.move_to(start)
        self.descend_along(plus(here, correction))
        self.differentiate(engine, batch)
        gradients = plus(self.gradients(), correction)
        self.move_to(start)
        self.descend_along(gradients)
        self.memory["steps"] = [self.memory["steps"][0] + 1]
        return losses

    def snapshot(self, engine: Engine) -> None:
        """Remembers the parameters and both players' gradients there, averaged over an epoch's batches of equal size.

        Raises:
            ValueError: there is none.
        """
        count, total = 0, None
        for batch in engine.epoch():
            self.differentiate(engine, batch)
            gradients = self.loss_gradients()
            total = gradients if total is None else plus(total, gradients)
            count += 1
        if total is None:
            raise ValueError("VarianceReducedExtragradient: the epoch is empty, expected batches of the whole data")
        self.memory["snapshot"], self.memory["mean"] = self.positions(), times(total, 1 / count)
        self.memory["steps"], self.memory["batches"] = [torch.tensor(0)], [torch.tensor(count)]

    def _is_due(self) -> bool:
        """Whether there is no snapshot, or as many steps were taken since as it was of batches."""
        if "batches" not in self.memory:
            return True
        (steps,), (batches,) = self.memory["steps"], self.memory["batches"]
        return bool(steps >= batches)
