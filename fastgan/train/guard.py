"""Stops a run that has diverged, before anything of it is saved.

Every step leaves both players' losses and gradient norms on the device: a few launches and no wait. They are read
together, at every log line, picture and checkpoint and after at most 100 steps, and say at which step it went wrong.
"""

import math
from collections import defaultdict, deque
from statistics import median

import torch
from torch import Tensor

from fastgan.errors import UserError
from fastgan.games import Game
from fastgan.games.player import Player
from fastgan.losses import Players

EVERY = 100
"""Steps that are looked at together, at most."""
TOO_LARGE, FLOOR, PATIENCE = 1e4, 1.0, 50
"""A gradient norm is too large above so many times its running median, or the floor where that is smaller, as a player
whose gradient had vanished may recover. In so many steps after each other: one alone is a rare batch."""
REMEMBERED = 1000
"""Norms of which the running median is taken, from before the steps that are looked at."""


class DivergedError(UserError):
    """A run is no longer finite, or its gradients are far larger than they were."""


class Guard:
    """Watches the losses and gradients of a run, from its start or its resumption on."""

    def __init__(self) -> None:
        self._steps: list[int] = []
        self._losses: dict[str, list[Tensor]] = defaultdict(list)
        self._norms: dict[str, list[Tensor]] = defaultdict(list)
        self._usual: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=REMEMBERED))
        self._in_a_row: dict[str, int] = defaultdict(int)

    def record(self, step: int, game: Game, losses: Players) -> None:
        """Remembers what a step came to, on the device; every hundredth call looks at what was remembered.

        Args:
            step: its number.
            game: whose players have the gradients along which they stepped in `.grad`.
            losses: of both sides: detached scalars.

        Raises:
            DivergedError: as `check`.
        """
        self._steps.append(step)
        for who, loss in losses._asdict().items():
            self._losses[who].append(loss)
        for player in game.players:
            self._norms[player.who].append(gradient_norm(player))
        if len(self._steps) >= EVERY:
            self.check()

    def check(self) -> None:
        """Looks at the steps since the last time; waits for the device.

        Raises:
            DivergedError: a loss or a gradient norm is not finite, or a norm was too large in 50 steps in a row. The
                message names the player and the step.
        """
        steps, self._steps = self._steps, []
        if not steps:
            return
        losses, norms = _read(self._losses), _read(self._norms)
        for index, step in enumerate(steps):
            for what, found in (("loss", losses), ("gradient norm", norms)):
                for who, values in found.items():
                    if not math.isfinite(values[index]):
                        raise DivergedError(
                            f"the {who}'s {what} is {values[index]} at step {step}, expected a finite one"
                        )
        for who, values in norms.items():
            self._check_sizes(who, steps, values)

    def _check_sizes(self, who: str, steps: list[int], norms: list[float]) -> None:
        usual = max(FLOOR, median(self._usual[who] or norms))
        for step, norm in zip(steps, norms, strict=True):
            if norm <= TOO_LARGE * usual:
                self._usual[who].append(norm)
                self._in_a_row[who] = 0
                continue
            self._in_a_row[who] += 1
            if self._in_a_row[who] == PATIENCE:
                raise DivergedError(
                    f"the {who}'s gradient norm is {norm:.3g} at step {step} and was above {TOO_LARGE:g} times its "
                    f"median of {usual:.3g} for {PATIENCE} steps, expected it to return"
                )


def gradient_norm(player: Player) -> Tensor:
    """||.grad|| over all parameters of a player that have one: a scalar on their device."""
    gradients = [p.grad for p in player.parameters if p.grad is not None]
    return torch.stack(torch._foreach_norm(gradients)).norm() if gradients else torch.zeros([])


def _read(named: dict[str, list[Tensor]]) -> dict[str, list[float]]:
    """The numbers that were remembered, which are forgotten."""
    found = {name: torch.stack(values).tolist() for name, values in named.items()}
    named.clear()
    return found
