"""Alternating gradient descent, the usual way to train GANs: the generator steps after the critic."""

from typing import ClassVar

from torch.optim import Optimizer

from fastgan.games.checks import count
from fastgan.games.engine import Engine
from fastgan.games.game import Game
from fastgan.losses import Players


class Alternating(Game):
    """The critic steps `critic_steps` times, then the generator once.

    On V(x, y) = -xy, one step each, it neither comes nearer to the equilibrium nor leaves: both eigenvalues are on the
    unit circle for learning rates whose product is below 4.

    Args:
        critic, generator: optimisers of the players' parameters.
        critic_steps: updates of the critic for each of the generator, each on data of its own.

    Goodfellow et al. 2014, arXiv:1406.2661, algorithm 1.
    """

    name: ClassVar[str] = "alternating"
    paper: ClassVar[str] = "Goodfellow et al. 2014, arXiv:1406.2661"
    settings: ClassVar[tuple[str, ...]] = ("critic_steps",)

    def __init__(self, critic: Optimizer, generator: Optimizer, critic_steps: int = 1) -> None:
        super().__init__(critic, generator)
        self.critic_steps = count("Alternating", "critic_steps", critic_steps)

    def step(self, engine: Engine) -> Players:
        batch = engine.batch()
        first = engine.gradient("critic", batch)
        self.critic.optimizer.step()
        for _ in range(self.critic_steps - 1):
            batch = engine.batch()
            engine.gradient("critic", batch)
            self.critic.optimizer.step()
        second = engine.gradient("generator", engine.again(batch))
        self.generator.optimizer.step()
        return Players(first, second)
