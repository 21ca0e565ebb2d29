"""Follow-the-ridge: corrects the critic's step so that it stays at its best response while the generator moves."""

from typing import ClassVar

from torch.optim import Optimizer

from fastgan.games.checks import count, within
from fastgan.games.engine import Engine
from fastgan.games.field import pulled_back
from fastgan.games.game import Game
from fastgan.games.vectors import Vector, solve_normal_equations, times
from fastgan.losses import Players


class FollowTheRidge(Game):
    """The generator (leader) descends; the critic (follower) descends and corrects for what the generator did:

        y = -lr_y grad_y L_y,    x = -lr_x grad_x L_x - H^-1 D_xy L_x y,    H = D_xx L_x

    Its stable points are the local minimax points, without rotation. H^-1 is by conjugate gradients on the normal
    equations with damping, as H of a network is singular and, away from the ridge, not definite. It amplifies rounding:
    keep the losses in float32.

    Args:
        critic, generator: SGD without momentum over the players' parameters.
        damping: added to H^2.
        tolerance: of the solution, relative.
        max_iterations: of conjugate gradients in each step, each of which takes two Hessian-vector products.

    Wang et al. 2020, arXiv:1910.07512, algorithm 1.
    """

    name: ClassVar[str] = "follow-the-ridge"
    paper: ClassVar[str] = "Wang et al. 2020, arXiv:1910.07512"
    settings: ClassVar[tuple[str, ...]] = ("damping", "tolerance", "max_iterations")
    second_order, replays, plain = True, True, True

    def __init__(
        self, critic: Optimizer, generator: Optimizer,
        damping: float = 0.0, tolerance: float = 1e-6, max_iterations: int = 20,
    ) -> None:  # fmt: skip
        super().__init__(critic, generator)
        self.damping = within("FollowTheRidge", "damping", damping, 0)
        self.tolerance = within("FollowTheRidge", "tolerance", tolerance, 0)
        self.max_iterations = count("FollowTheRidge", "max_iterations", max_iterations)

    def step(self, engine: Engine) -> Players:
        self.check_plain()
        field = self.field(engine, engine.batch())
        x, y = self.critic.parameters, self.generator.parameters
        x_of_critic, y_of_critic, y_of_generator = field.of_critic(x), field.of_critic(y), field.of_generator(y)
        step_y = times([g.detach() for g in y_of_generator], [-rate for rate in self.generator.learning_rates])

        def hessian(u: Vector) -> Vector:
            return pulled_back(x_of_critic, u, x)

        correction = solve_normal_equations(
            hessian, hessian, pulled_back(y_of_critic, step_y, x), self.tolerance, self.max_iterations, self.damping
        ).x
        self.generator.descend_along([g.detach() for g in y_of_generator])
        self.critic.descend_along([g.detach() for g in x_of_critic])
        for p, part in zip(x, correction, strict=True):
            p.detach().sub_(part)
        return field.losses
