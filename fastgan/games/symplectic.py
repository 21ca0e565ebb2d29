"""Symplectic gradient adjustment: turns the step against the rotation of the game."""

from typing import ClassVar

import torch
from torch.optim import Optimizer

from fastgan.games.checks import within
from fastgan.games.field import Field, pulled_back, pushed_forward
from fastgan.games.game import Game
from fastgan.games.player import Closure
from fastgan.games.vectors import dot, plus, times
from fastgan.losses import Players

EPSILON = 0.1
"""Of the alignment, as in the paper's algorithm 1."""


class SymplecticAdjustment(Game):
    """Along v + lambda A^T v, A = (J - J^T) / 2 the antisymmetric part of the Jacobian.

    Its sign is chosen so that stable equilibria attract and unstable ones repel (alignment):
    lambda = strength sign(<v, h> <A^T v, h> / d + 1/10), h = J^T v, d parameters.

    Args:
        critic, generator: optimisers of the players' parameters.
        strength: the size of lambda.
        align: 0 for lambda = strength always.

    Balduzzi et al. 2018, arXiv:1802.05642, algorithm 1.
    """

    name: ClassVar[str] = "symplectic"
    paper: ClassVar[str] = "Balduzzi et al. 2018, arXiv:1802.05642"
    settings: ClassVar[tuple[str, ...]] = ("strength", "align")
    second_order = True

    def __init__(self, critic: Optimizer, generator: Optimizer, strength: float = 1.0, align: bool = True) -> None:
        super().__init__(critic, generator)
        self.strength = within("SymplecticAdjustment", "strength", strength, 0)
        self.align = bool(align)

    def step(self, critic: Closure, generator: Closure) -> Players:
        field = Field(self.critic, self.generator, critic, generator)
        graph = field.simultaneous()
        v = [g.detach() for g in graph]
        transposed = pulled_back(graph, v, self.parameters)
        pushed = pushed_forward(graph, v, self.parameters)
        adjustment = times(plus(transposed, pushed, -1.0), 0.5)
        if self.align:
            size = sum(g.numel() for g in v)
            aligned = dot(v, transposed) * dot(adjustment, transposed) / size + EPSILON
            # Its sign stays on the device.
            adjustment = [part * torch.sign(aligned).to(part) for part in adjustment]
        self.descend_along(plus(v, adjustment, self.strength))
        return field.losses
