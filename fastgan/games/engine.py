"""`Engine`: what a game asks of whoever computes losses and gradients."""

from collections.abc import Iterable
from typing import Protocol

from torch import Tensor

from fastgan.losses import Players
from fastgan.tasks.task import Batch, Side


class Engine(Protocol):
    """Computes losses and gradients of both sides at the parameters as they are when it is asked.

    A game moves parameters and asks; what the losses are, where data come from, on which device, in which precision and
    in how many parts they are computed is the engine's business. One batch, that is one `batch.key`, always gives the
    same gradient at the same parameters, and the same losses: what networks and penalties draw inside is the same as
    well, but `gradient` and `losses` may evaluate a penalty in different ways, with draws of their own. `Closures` is
    an engine for loops of your own.
    """

    def batch(self) -> Batch:
        """The next data, and new draws."""
        ...

    def again(self, batch: Batch) -> Batch:
        """The same data, and new draws."""
        ...

    def epoch(self) -> Iterable[Batch]:
        """All data once, in batches of the usual size. What `batch` gives next stays what it was."""
        ...

    def gradient(self, side: Side, batch: Batch) -> Tensor:
        """Puts the gradient of a side's loss in the `.grad` of its parameters, in the place of what was there.

        The opponent is held constant: no gradient of its parameters is computed, and their `.grad` stays.

        Returns:
            The loss, a detached scalar.
        """
        ...

    def losses(self, batch: Batch) -> Players:
        """Both sides' losses with their graphs, to be differentiated twice with respect to both sides' parameters.

        A game calls it with gradients enabled; nothing is held constant.
        """
        ...
