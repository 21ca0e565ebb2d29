"""Competitive gradient descent: both players step to the equilibrium of the local bilinear game."""

from typing import ClassVar

from torch.optim import Optimizer

from fastgan.games.checks import count, within
from fastgan.games.engine import Engine
from fastgan.games.field import pulled_back
from fastgan.games.game import Game
from fastgan.games.vectors import Vector, plus, solve_normal_equations, times
from fastgan.losses import Players


class CompetitiveGradientDescent(Game):
    """Steps x of the critic and y of the generator that are the equilibrium of the local bilinear game:

        x = -lr_x (grad_x L_x + D_xy L_x y),    y = -lr_y (grad_y L_y + D_yx L_y x)

    which is x = -(1 - lr_x lr_y D_xy L_x D_yx L_y)^-1 lr_x (grad_x L_x - lr_y D_xy L_x grad_y L_y). The system is
    solved by conjugate gradients on its normal equations, as it is symmetric in zero-sum games alone; every iteration
    takes four products with second derivatives.

    Args:
        critic, generator: SGD without momentum over the players' parameters.
        tolerance: of the solution, relative.
        max_iterations: of conjugate gradients in each step.

    Schaefer & Anandkumar 2019, arXiv:1905.12103, algorithm 1.
    """

    name: ClassVar[str] = "competitive"
    paper: ClassVar[str] = "Schaefer & Anandkumar 2019, arXiv:1905.12103"
    settings: ClassVar[tuple[str, ...]] = ("tolerance", "max_iterations")
    second_order, replays, plain = True, True, True

    def __init__(
        self, critic: Optimizer, generator: Optimizer, tolerance: float = 1e-6, max_iterations: int = 20
    ) -> None:
        super().__init__(critic, generator)
        self.tolerance = within("CompetitiveGradientDescent", "tolerance", tolerance, 0)
        self.max_iterations = count("CompetitiveGradientDescent", "max_iterations", max_iterations)

    def step(self, engine: Engine) -> Players:
        self.check_plain()
        field = self.field(engine, engine.batch())
        x, y = self.critic.parameters, self.generator.parameters
        rate_x, rate_y = self.critic.learning_rates, self.generator.learning_rates
        x_of_critic, y_of_critic, x_of_generator, y_of_generator = field.gradients()

        def scaled_mixed(u: Vector) -> Vector:  # lr_x D_xy L_x lr_y D_yx L_y u
            answer = times(pulled_back(x_of_generator, u, y), rate_y)
            return times(pulled_back(y_of_critic, answer, x), rate_x)

        def transposed_mixed(u: Vector) -> Vector:
            answer = times(pulled_back(x_of_critic, times(u, rate_x), y), rate_y)
            return pulled_back(y_of_generator, answer, x)

        own, others = ([g.detach() for g in gradients] for gradients in (x_of_critic, y_of_generator))
        foreseen = pulled_back(y_of_critic, times(others, rate_y), x)
        step_x = solve_normal_equations(
            lambda u: plus(u, scaled_mixed(u), -1.0),
            lambda u: plus(u, transposed_mixed(u), -1.0),
            times(plus(own, foreseen, -1.0), [-rate for rate in rate_x]),
            self.tolerance,
            self.max_iterations,
        ).x
        # What SGD makes of these gradients are the two steps.
        answered = plus(others, pulled_back(x_of_generator, step_x, y))
        self.critic.descend_along(plus(own, pulled_back(y_of_critic, times(answered, rate_y), x), -1.0))
        self.generator.descend_along(answered)
        return field.losses
