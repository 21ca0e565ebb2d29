"""The recipe of a `fastgan.tasks.Points`: perceptrons on a mixture of Gaussians."""

from collections.abc import Mapping
from typing import Literal

from pydantic import NonNegativeInt

from fastgan.errors import wrong
from fastgan.models import PointCritic, PointGenerator
from fastgan.recipes.objective import Objective
from fastgan.tasks import Points
from fastgan.tasks.gan import read_loss
from fastgan.train.settings import Count


class PointsSection(Objective):
    """A generator of points in the plane against a critic of them."""

    kind: Literal["points"]
    """Which task this is."""
    latent_dim: Count = 8
    """Numbers in a latent vector."""
    width: Count = 128
    """Of the three hidden layers of both networks."""
    minibatch: NonNegativeInt = 0
    """Features of minibatch discrimination in the critic; 0 for none."""

    def build(self, shape: tuple[int, ...], classes: Mapping[str, int], batch_size: int) -> Points:
        """The task with fresh weights. Raises UserError where parts do not go together.

        Args:
            shape: (2,).
            classes, batch_size: not used.
        """
        loss, (dims,) = read_loss(self.loss), shape
        if loss.output not in ("logit", "features"):
            raise wrong(
                "task.loss", self.loss, "an objective of logits or of features: the critic here gives one number for "
                "each point",
            )  # fmt: skip
        generator = PointGenerator(self.latent_dim, self.width, dims)
        critic = self.packed(self.wrapped(PointCritic(dims * self.pack, self.width, self.minibatch)))
        return Points(generator, critic, loss, **self.arguments())
