"""Symplectic gradient adjustment: turns the step against the rotation of the game."""

from typing import ClassVar

import torch
from torch.optim import Optimizer

from fastgan.games.checks import within
from fastgan.games.engine import Engine
from fastgan.games.field import pulled_back
from fastgan.games.game import Game
from fastgan.games.vectors import dot, plus, times
from fastgan.losses import Players

EPSILON = 0.1
"""Constant that is added to the alignment before its sign is taken, as in the paper's algorithm 1."""


class SymplecticAdjustment(Game):
    """Descends along v + lambda A^T v, where A = (J - J^T) / 2 is the antisymmetric part of the Jacobian.

    Its sign is chosen so that stable equilibria attract and unstable ones repel (alignment):
    lambda = strength sign(<v, h> <A^T v, h> / d + 1/10), h = J^T v, d parameters.

    Args:
        critic, generator: optimisers of the players' parameters.
        strength: the size of lambda.
        align: whether the sign is chosen; with 0, lambda = strength always.

    Raises:
        ValueError: strength is below 0, or align neither 0 nor 1.

    Balduzzi et al. 2018, arXiv:1802.05642, algorithm 1.
    """

    name: ClassVar[str] = "symplectic"
    paper: ClassVar[str] = "Balduzzi et al. 2018, arXiv:1802.05642"
    settings: ClassVar[tuple[str, ...]] = ("strength", "align")
    second_order = True

    def __init__(self, critic: Optimizer, generator: Optimizer, strength: float = 1.0, align: bool = True) -> None:
        super().__init__(critic, generator)
        self.strength = within("SymplecticAdjustment", "strength", strength, 0)
        if align not in (0, 1):
            raise ValueError(f"SymplecticAdjustment: align is {align!r}, expected 0 or 1")
        self.align = bool(align)

    def step(self, engine: Engine) -> Players:
        field = self.field(engine, engine.batch())
        x, y = self.critic.parameters, self.generator.parameters
        x_of_critic, y_of_critic, x_of_generator, y_of_generator = field.gradients()
        v_x, v_y = ([g.detach() for g in gradients] for gradients in (x_of_critic, y_of_generator))
        v = v_x + v_y
        # The Hessians of the two losses are symmetric: only what each player does to the other is left of A^T v.
        twice_x = plus(pulled_back(y_of_generator, v_y, x), pulled_back(y_of_critic, v_y, x), -1.0)
        twice_y = plus(pulled_back(x_of_critic, v_x, y), pulled_back(x_of_generator, v_x, y), -1.0)
        adjustment = times(twice_x + twice_y, 0.5)
        if self.align:
            h = pulled_back(x_of_critic + y_of_generator, v, self.parameters)
            aligned = dot(v, h) * dot(adjustment, h) / sum(g.numel() for g in v) + EPSILON
            # Its sign stays on the device.
            adjustment = [part * torch.sign(aligned).to(part) for part in adjustment]
        self.descend_along(field.of_reached(plus(v, adjustment, self.strength)))
        return field.losses
