"""Consensus optimisation: both players also minimise the size of the vector field, which is zero at equilibria."""

from typing import ClassVar

from torch.optim import Optimizer

from fastgan.games.checks import within
from fastgan.games.engine import Engine
from fastgan.games.field import pulled_back
from fastgan.games.game import Game
from fastgan.games.vectors import plus
from fastgan.losses import Players


class Consensus(Game):
    """Descends along v + gamma J^T v, where J^T v is the gradient of 1/2 ||v||^2.

    Args:
        critic, generator: optimisers of the players' parameters (the paper has RMSProp).
        gamma: weight of the regulariser. Its step must stay below what the squared Jacobian allows: on V(x, y) = -xy,
            at learning rates of 0.5, it converges for 0.27 to 3.73. The paper has 10 in most experiments, at rates of
            1e-4.

    Mescheder et al. 2017, arXiv:1705.10461, algorithm 2.
    """

    name: ClassVar[str] = "consensus"
    paper: ClassVar[str] = "Mescheder et al. 2017, arXiv:1705.10461"
    settings: ClassVar[tuple[str, ...]] = ("gamma",)
    second_order = True

    def __init__(self, critic: Optimizer, generator: Optimizer, gamma: float = 1.0) -> None:
        super().__init__(critic, generator)
        self.gamma = within("Consensus", "gamma", gamma, 0)

    def step(self, engine: Engine) -> Players:
        field = self.field(engine, engine.batch())
        v = field.simultaneous()
        pull = pulled_back(v, [g.detach() for g in v], self.parameters)
        self.descend_along(field.of_reached(plus([g.detach() for g in v], pull, self.gamma)))
        return field.losses
