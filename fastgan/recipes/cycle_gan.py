"""The recipe of a `fastgan.tasks.CycleGAN`: two of each network, of one description."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn

from fastgan.errors import UserError, one_line
from fastgan.models import PatchCritic, TranslationGenerator
from fastgan.recipes.networks import Network
from fastgan.recipes.objective import Weight
from fastgan.tasks import CycleGAN
from fastgan.train.sections import Section
from fastgan.train.settings import Count


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
    buffer: Count = 50
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
        check_shapes(to_b, critic_b, shape)
        return CycleGAN(
            to_b, to_a, critic_a, critic_b, shape,
            loss=self.loss, cycle=self.cycle, identity=self.identity, buffer=self.buffer,
        )  # fmt: skip


@torch.no_grad()
def check_shapes(generator: nn.Module, critic: nn.Module, shape: tuple[int, int, int]) -> None:
    """Raises UserError unless a translated image has the shape that it had, and is large enough for the critic."""
    size = "x".join(map(str, shape[1:]))
    images = torch.zeros(1, *shape)
    try:
        found = tuple(generator(images).shape[1:])
        critic(images)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"data.resolution is {size}, too small for these networks: {one_line(error)}") from error
    if found != shape:
        raise UserError(f"data.resolution is {size}, expected multiples of 4: images come out as {found[1]}x{found[2]}")
