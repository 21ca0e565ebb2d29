"""ODE-GAN: training as the solution of the players' differential equation by a Runge-Kutta method."""

from typing import ClassVar

from torch import Tensor
from torch.optim import Optimizer

from fastgan.games.checks import within
from fastgan.games.engine import Engine
from fastgan.games.field import pulled_back
from fastgan.games.game import Game
from fastgan.games.vectors import Vector, plus, times
from fastgan.losses import Players
from fastgan.tasks.task import Batch

# Where each slope is taken, as a multiple of the slope before, and its weight in the step.
STAGES: dict[int, tuple[tuple[float, float], ...]] = {
    2: ((0.0, 1 / 2), (1.0, 1 / 2)),
    4: ((0.0, 1 / 6), (0.5, 1 / 3), (0.5, 1 / 3), (1.0, 1 / 6)),
}


class RungeKutta(Game):
    """Follows dw/dt = -v(w) by Heun's method (order 2) or the classical method (order 4), lr being the step of time.

    With a weight, the critic also descends along weight grad_x ||grad_y L_y||^2 of the generator's gradient norm, taken
    where the step begins.

    Args:
        critic, generator: SGD without momentum over the players' parameters, lr the step size of both.
        order: 2 or 4: the gradients that a step takes of each player.
        weight: of the gradient regularisation; 0 for none, and no second derivatives.

    Qin et al. 2020, arXiv:2010.15040, algorithm 1.
    """

    name: ClassVar[str] = "runge-kutta"
    paper: ClassVar[str] = "Qin et al. 2020, arXiv:2010.15040"
    settings: ClassVar[tuple[str, ...]] = ("order", "weight")
    replays, plain = True, True

    def __init__(self, critic: Optimizer, generator: Optimizer, order: int = 2, weight: float = 0.0) -> None:
        super().__init__(critic, generator)
        if order not in STAGES:
            raise ValueError(f"RungeKutta: order is {order!r}, expected one of {', '.join(map(str, STAGES))}")
        self.stages = STAGES[int(order)]
        self.weight = within("RungeKutta", "weight", weight, 0)
        self.second_order = self.weight > 0

    def step(self, engine: Engine) -> Players:
        self.check_plain()
        batch = engine.batch()
        start = self.positions()
        pull = self._regulariser(engine, batch) if self.weight else None
        rates = [-rate for player in self.players for rate in player.learning_rates]
        losses = self.differentiate(engine, batch)
        slope = self.gradients()
        total = times(slope, self.stages[0][1])
        for along, share in self.stages[1:]:
            self.move_to(plus(start, times(slope, rates), along))
            self.differentiate(engine, batch)
            slope = self.gradients()
            total = plus(total, slope, share)
        self.move_to(start)
        if pull is not None:
            count = len(pull)
            total[:count] = plus(total[:count], pull, self.weight)
        self.descend_along(total)
        return losses

    def _regulariser(self, engine: Engine, batch: Batch) -> Vector:
        """grad_x ||grad_y L_y||^2."""
        field = self.field(engine, batch)
        y_of_generator = field.of_generator(self.generator.parameters)
        twice: list[Tensor] = times([g.detach() for g in y_of_generator], 2.0)
        return pulled_back(y_of_generator, twice, self.critic.parameters)
