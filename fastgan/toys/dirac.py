"""DiracGAN, the smallest GAN: it shows which methods converge.

The data are the number 0, the generator's samples the number theta, and the critic is D(x) = psi x. The only
equilibrium is (theta, psi) = (0, 0).

Mescheder et al. 2018, arXiv:1801.04406, section 2.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD

from fastgan import games
from fastgan.errors import UserError, wrong
from fastgan.losses import parse as parse_loss
from fastgan.penalties import critic_loss, differentiable_critic_loss, parse

QUANTILES = 64
"""Points that stand for the distribution of instance noise."""
LACKS = {"error": "is no autoencoder", "logit and features": "gives one number for each point"}
"""Why the critic gives no such output."""


@dataclass(frozen=True)
class DiracRecipe:
    """The settings of a DiracGAN.

    Attributes:
        loss: as `fastgan.losses.parse` reads it.
        game: as `fastgan.games.parse` reads it.
        penalty: as `fastgan.penalties.parse` reads it, e.g. `r1:1`.
        noise: standard deviation of Gaussian noise on data and samples; the mean over 64 of its quantiles
            stands for the expectation.
        clip: largest |psi|; 0 for no clipping.
        lr: of both players' SGD.

    Raises:
        UserError: a text cannot be read, the objective is of more than one number for each point or of more points than
            there are, or lr is not above 0; the message names the option of `fastgan play`.
    """

    loss: str = "nonsaturating"
    game: str = "alternating"
    penalty: str = ""
    noise: float = 0.0
    clip: float = 0.0
    lr: float = 0.5

    def __post_init__(self) -> None:
        _check_loss(self.loss, self.points)
        _check_game(self.game)
        try:
            parse(self.penalty)
        except ValueError as error:
            raise UserError(f"--penalty is {self.penalty!r}: {error}") from None
        if not 0 < self.lr < math.inf:
            raise wrong("--lr", self.lr, "a number above 0")

    @property
    def points(self) -> int:
        """The number of points that stand for the data, and for the samples."""
        return QUANTILES if self.noise else 1


def _check_loss(text: str, points: int) -> None:
    """Raises UserError unless it is an objective of one number for each of so many points of data, and of samples."""
    try:
        loss = parse_loss(text)
    except ValueError as error:
        raise UserError(f"--loss is {error}") from None
    if loss.output in LACKS:
        raise wrong("--loss", text, f"an objective of logits or of features: the critic here {LACKS[loss.output]}")
    trial = torch.zeros(points, 1)
    try:
        loss.critic(trial, trial)
    except ValueError as error:  # it compares points with each other, and there is one
        raise UserError(f"--loss is {text!r}: {error}") from None


def _check_game(text: str) -> None:
    """Raises UserError unless it is a game, its numbers in their ranges."""
    try:
        method = games.parse(text)
    except ValueError as error:
        raise UserError(f"--game is {error}") from None
    try:
        method(*(SGD([torch.zeros(1, requires_grad=True)], 1.0) for _ in range(2)))
    except ValueError as error:
        raise UserError(f"--game is {text!r}: {error}") from None


class Point(nn.Module):
    """The generator: z [B, ...] -> theta, [B, 1]."""

    def __init__(self, theta: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([[theta]], dtype=torch.float64))

    def forward(self, z: Tensor) -> Tensor:
        """One row for each of z."""
        return self.theta.expand(len(z), 1)


def trajectory(recipe: DiracRecipe, steps: int = 500, start: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """Trains from `start`.

    Returns:
        (theta, psi) before the first step and after each, float64 [steps + 1, 2].
    """
    loss, penalties = parse_loss(recipe.loss), parse(recipe.penalty)
    generator, critic = Point(start[0]), nn.Linear(1, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        critic.weight.fill_(start[1])
    game = games.parse(recipe.game)(SGD(critic.parameters(), lr=recipe.lr), SGD(generator.parameters(), lr=recipe.lr))
    noise = recipe.noise * quantiles(recipe.points)
    z = torch.zeros(len(noise), 1, dtype=torch.float64)

    def of_critic() -> Tensor:
        fake = generator(z) + noise
        if not penalties:
            return loss.critic(critic(noise), critic(fake))
        if game.second_order:
            return differentiable_critic_loss(critic, noise, fake, loss, penalties)
        return critic_loss(critic, noise, fake, loss=loss, penalties=penalties)

    def of_generator() -> Tensor:
        return loss.generator(critic(generator(z) + noise), critic(noise))

    path = [(generator.theta.item(), critic.weight.item())]
    closures = games.Closures(game, of_critic, of_generator, epoch=lambda: [(of_critic, of_generator)])
    for _ in range(steps):
        game.step(closures)
        if recipe.clip:
            with torch.no_grad():
                critic.weight.clamp_(-recipe.clip, recipe.clip)
        path.append((generator.theta.item(), critic.weight.item()))
    return np.array(path)


def quantiles(count: int) -> Tensor:
    """`count` numbers of equal probability between them, of the standard normal distribution: [count, 1]."""
    levels = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return torch.special.ndtri(levels)[:, None]


def verdict(path: np.ndarray) -> str:
    """The outcome of a trajectory: `converges`, `diverges`, `circles` the equilibrium, or is `stuck` elsewhere.

    It converges if its last tenth is on average within 2 % of the start's distance; it diverges if that is ten times as
    far as the start, or farther and still growing, or no longer finite; it circles if its last half goes round at least
    once.
    """
    if not np.isfinite(path).all():
        return "diverges"
    distance = np.linalg.norm(path, axis=1)
    tenth, half = max(1, len(path) // 10), len(path) // 2
    start, middle, late = distance[0], distance[half : half + tenth].mean(), distance[-tenth:].mean()
    if late < 0.02 * start:
        return "converges"
    if late > 10 * start or late > max(1.02 * middle, 1.5 * start):
        return "diverges"
    angle = np.unwrap(np.arctan2(path[half:, 1], path[half:, 0]))
    return "circles" if abs(angle[-1] - angle[0]) >= 2 * np.pi else "stuck"
