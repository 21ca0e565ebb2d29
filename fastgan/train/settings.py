"""How a task is trained: the settings of the game's optimiser, and those of a run."""

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn
from torch.optim import SGD, Adam, Optimizer

from fastgan import games
from fastgan.errors import UserError
from fastgan.train.schedules import value_at
from fastgan.train.sections import Real, Section, moving

Count = Annotated[int, Field(ge=1, lt=2**31)]


class GameSettings(Section):
    """How the players move."""

    kind: str = "alternating"
    """The game's optimiser: alternating, alternating:5 (critic steps), extragradient, consensus:1, ..."""
    lr: moving(0, open_low=True) = 2e-4  # type: ignore[valid-type]
    """Learning rate of the generators; may follow a schedule."""
    lr_critic: moving(0, open_low=True) = 2e-4  # type: ignore[valid-type]
    """Learning rate of the critics; may follow a schedule."""
    beta1: Annotated[Real, Field(ge=0, lt=1)] = 0.5
    """Adam's decay of the mean, of both sides; not used by games whose players step by SGD."""
    beta2: moving(0, 1, open_high=True) = 0.99  # type: ignore[valid-type]
    """Adam's decay of the square, likewise; may follow a schedule."""
    clip: Annotated[Real, Field(ge=0)] = 0.0
    """Largest norm of a side's gradient, to which it is scaled down; 0 for none."""
    unroll: Annotated[int, Field(ge=0)] = 0
    """Steps of the critics through which the generators look ahead (unrolled GAN); 0 for none."""

    def build(self, critics: nn.Module, generators: nn.Module) -> games.Game:
        """The game between two sides.

        Raises:
            UserError: there is no such game, or one of its numbers is out of range.
        """
        try:
            method = games.parse(self.kind)
        except ValueError as error:
            raise UserError(f"game.kind is {error}") from None
        try:
            return method(self._optimizer(critics, self.lr_critic), self._optimizer(generators, self.lr))
        except ValueError as error:  # of a number
            raise UserError(f"game.kind is {self.kind!r}: {error}") from None

    def trial(self) -> games.Game:
        """A game of one number on each side, as what it is may depend on its numbers."""
        return self.build(*(nn.ParameterList([torch.zeros(1)]) for _ in range(2)))

    def _optimizer(self, side: nn.Module, lr: Any) -> Optimizer:
        rate = value_at(lr, 0)
        if games.kind_of(self.kind).plain:
            return SGD(side.parameters(), rate)
        # One fused kernel instead of a dozen small operations for each parameter.
        return Adam(side.parameters(), rate, (self.beta1, value_at(self.beta2, 0)), fused=True)

    def move(self, game: games.Game, step: int) -> None:
        """Sets what follows a schedule to its value at a step."""
        for player, lr in zip(game.players, (self.lr_critic, self.lr), strict=True):
            for group in player.optimizer.param_groups:
                group["lr"] = value_at(lr, step)
                if "betas" in group:
                    group["betas"] = (group["betas"][0], value_at(self.beta2, step))


class RunSettings(Section):
    """How long, on what, and what is written."""

    steps: Count
    """Steps of the game, from the start of the run."""
    batch_size: Count = 64
    """Samples of the data in an update."""
    chunks: Count = 1
    """Into so many a batch is cut, evaluated one after another, for less memory; a divisor of batch_size."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """float32, or bfloat16 by autocast."""
    ema: moving(0, 1, open_high=True) = 0.999  # type: ignore[valid-type]
    """Share of the averaged networks that a step keeps; may follow a schedule."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Of everything that is drawn: weights, order of the data, latents, dropout."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ..., or auto for a GPU if there is one."""
    log_every: Count = 50
    """Steps between log lines."""
    sample_every: Count = 500
    """Steps between pictures."""
    save_every: Count = 500
    """Steps between checkpoints."""
    keep: Count = 3
    """How many checkpoints are kept."""


CHANGEABLE = frozenset({"steps", "device", "log_every", "sample_every", "save_every", "keep"})
"""What may differ when a run is resumed; anything else would make it another run."""
