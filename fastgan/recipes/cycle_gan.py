"""The recipe of a `fastgan.tasks.CycleGAN`: two of each network, of one description."""

from collections.abc import Mapping
from typing import Literal

from pydantic import PositiveInt

from fastgan.models import PatchCritic, TranslationGenerator
from fastgan.recipes.networks import Network
from fastgan.recipes.objective import Weight
from fastgan.tasks import CycleGAN
from fastgan.train.sections import Section


class CycleGANSection(Section):
    """Two generators that translate between two sets of images, and a critic of each set."""

    kind: Literal["cycle-gan"]
    """Which task this is."""
    generator: Network
    """Translates images: translation (width, blocks)."""
    critic: Network
    """Judges patches of images: patch (width, halvings)."""
    loss: str = "least_squares"
    """The objective, one of logits: least_squares, nonsaturating, hinge, ... (docs/objectives.md)."""
    cycle: Weight = 10.0
    """Weight of the mean absolute error of images that went there and back."""
    identity: Weight = 5.0
    """Weight of the mean absolute error of images translated to their own set; 0 for none."""
    buffer: PositiveInt = 50
    """Generated images of each set that are kept to be shown to the critic, at least run.batch_size."""

    def build(self, shape: tuple[int, int, int], classes: Mapping[str, int], batch_size: int) -> CycleGAN:
        """The task with fresh weights. Raises UserError where parts do not go together, or cannot be built.

        Args:
            shape: (C, H, W) of the images of both sets.
            classes, batch_size: not used.
        """
        to_b, to_a = (
            self.generator.build("task.generator", {"translation": TranslationGenerator}, channels=shape[0])
            for _ in range(2)
        )
        critic_a, critic_b = (
            self.critic.build("task.critic", {"patch": PatchCritic}, channels=shape[0]) for _ in range(2)
        )
        return CycleGAN(
            to_b, to_a, critic_a, critic_b, shape,
            loss=self.loss, cycle=self.cycle, identity=self.identity, buffer=self.buffer,
        )  # fmt: skip
