"""GANs of points in the plane: small perceptrons on a mixture of Gaussians."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam

from fastgan import games, unrolling
from fastgan.default_dtype import float32_by_default
from fastgan.losses import parse as parse_loss
from fastgan.nn import MinibatchDiscrimination, PackedCritic
from fastgan.options import wrong
from fastgan.penalties import critic_loss, differentiable_critic_loss, parse
from fastgan.toys.checks import check_loss, check_lr, check_penalty, trial_game
from fastgan.toys.mixtures import Mixture, ModeCoverage, mode_coverage

LATENT_DIM, WIDTH = 8, 128


@dataclass(frozen=True)
class PlaneRecipe:
    """The settings of a GAN of points.

    Attributes:
        loss, optimizer, penalty: as `fastgan.losses`, `fastgan.games` and `fastgan.penalties` parse them.
        steps: updates of the generator.
        lr: learning rate of both players, Adam's or SGD's (where the method is about steps of that form).
        lr_critic: the critic's, if it is another.
        beta1, beta2: Adam's.
        decay: whether the learning rate falls to zero, linearly over the steps.
        ema: decay of the averaged generator that is judged; 0 for the last one.
        minibatch: features of minibatch discrimination in the critic.
        pack: samples that the critic judges together.
        unroll: steps of the critic through which the generator looks ahead.
        batch_size: points of data and of samples per update.

    Raises:
        UserError: a text cannot be read, the objective is of more than one number for each point, a learning rate is no
            number above 0, a batch is no whole number of packs, or unrolling is with what it cannot differentiate; the
            message names the option of `fastgan play`.
    """

    loss: str = "nonsaturating"
    optimizer: str = "alternating"
    penalty: str = ""
    steps: int = 10_000
    lr: float = 1e-3
    lr_critic: float | None = None
    beta1: float = 0.5
    beta2: float = 0.99
    decay: bool = False
    ema: float = 0.0
    minibatch: int = 0
    pack: int = 1
    unroll: int = 0
    batch_size: int = 256

    def __post_init__(self) -> None:
        if self.pack < 1 or self.batch_size < 1 or self.batch_size % self.pack:
            raise wrong("pack", self.pack, f"a divisor of the batch size, which is {self.batch_size}")
        check_loss(self.loss, self.batch_size // self.pack)
        penalised, game = check_penalty(self.penalty), trial_game(self.optimizer)
        check_lr("lr", self.lr)
        if self.lr_critic is not None:
            check_lr("lr_critic", self.lr_critic)
        if self.unroll and game.second_order:
            reason = "it differentiates the generator's loss by the critic, of which unrolling has copies"
            raise wrong("optimizer", self.optimizer, f"a method of first derivatives: {reason}")
        if self.unroll and penalised:
            reason = "unrolling differentiates the critic's steps, for which a penalty would need third derivatives"
            raise wrong("penalty", self.penalty, f"none: {reason}")


class PlaneGAN:
    """A generator, a critic and the game between them, over one mixture.

    Args:
        mixture: the data; the networks see it at unit scale.
        recipe: how it is trained.
        seed: of the weights and of every draw. PyTorch's global generator is left alone.

    Attributes:
        step: steps taken.
    """

    def __init__(self, mixture: Mixture, recipe: PlaneRecipe, seed: int = 0) -> None:
        self.mixture, self.recipe, self.step = mixture, recipe, 0
        self._random = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]), float32_by_default():
            torch.default_generator.manual_seed(seed)
            self.generator = perceptron(LATENT_DIM, 2, nn.ReLU())
            self.critic = plane_critic(recipe)
        self._average = copy.deepcopy(self.generator)
        self.loss, self.penalties = parse_loss(recipe.loss), parse(recipe.penalty)
        self.game = games.parse(recipe.optimizer)(
            self._optimizer(self.critic, recipe.lr if recipe.lr_critic is None else recipe.lr_critic),
            self._optimizer(self.generator, recipe.lr),
        )

    def _optimizer(self, network: nn.Module, lr: float) -> torch.optim.Optimizer:
        recipe = self.recipe
        if games.kind_of(recipe.optimizer).plain:
            return SGD(network.parameters(), lr)
        return Adam(network.parameters(), lr, (recipe.beta1, recipe.beta2), fused=True)

    def train(self, steps: int, report: Callable[["PlaneGAN"], None] = lambda _: None) -> None:
        """Takes steps, calling `report` after each."""
        for _ in range(steps):
            self._take_step()
            report(self)

    def _take_step(self) -> None:
        recipe = self.recipe
        if recipe.decay:
            for player in self.game.players:
                for group in player.optimizer.param_groups:
                    group["lr"] = group.setdefault("initial_lr", group["lr"]) * max(0.0, 1 - self.step / recipe.steps)
        with torch.random.fork_rng(devices=[]):  # where penalties draw their points
            torch.default_generator.manual_seed(int(torch.randint(2**62, (1,), generator=self._random)))
            self._play()
        self.step += 1
        with torch.no_grad():
            for average, new in zip(self._average.parameters(), self.generator.parameters(), strict=True):
                average.lerp_(new, 1 - recipe.ema)

    def _play(self) -> None:
        if isinstance(self.game, games.VarianceReducedExtragradient) and self.step % SNAPSHOT_EVERY == 0:
            self.game.snapshot(self._closures() for _ in range(SNAPSHOT_BATCHES))
        self.game.step(*self._closures())

    def _closures(self) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
        """Both players' losses, on points that are drawn at every call, or once where the game asks for that."""
        drawn: list[Tensor] = []
        fresh = not self.game.one_batch

        def of_critic() -> Tensor:
            if fresh or not drawn:
                drawn[:] = [self._data(), self._latents()]
            return self._critic_loss(drawn[0], self.generator(drawn[1]))

        def of_generator() -> Tensor:
            z = self._latents() if fresh else drawn[1]
            if self.recipe.unroll:
                return self._unrolled(drawn[0], self.generator(z))
            real_logits = self.critic(drawn[0]) if self.loss.needs_real else None
            return self.loss.generator(self.critic(self.generator(z)), real_logits)

        return of_critic, of_generator

    def _critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        if not self.penalties:
            return self.loss.critic(self.critic(real), self.critic(fake))
        if self.game.second_order:
            return differentiable_critic_loss(self.critic, real, fake, self.loss, self.penalties)
        # In networks as small as these double backward costs less than the bookkeeping of one pass.
        return critic_loss(self.critic, real, fake, loss=self.loss, penalties=self.penalties, method="double_backward")

    def _unrolled(self, real: Tensor, fake: Tensor) -> Tensor:
        self.critic.requires_grad_(True)  # the game holds it constant; the unrolled copies are what moves here
        return unrolling.unrolled_generator_loss(
            self.critic,
            lambda critic: self.loss.critic(critic(real), critic(fake)),
            lambda critic: self.loss.generator(critic(fake), critic(real)),
            self.recipe.unroll,
            self._next_steps(),
        )

    def _next_steps(self) -> unrolling.InnerOptimizer:
        optimizer = self.game.players[0].optimizer
        if isinstance(optimizer, Adam):
            # From fresh averages Adam steps by signs, whose derivative is 0 or next to infinite.
            return unrolling.Adam.continuing(optimizer, self.critic)
        return unrolling.SGD(optimizer.param_groups[0]["lr"])

    def _data(self) -> Tensor:
        return self.mixture.sample(self.recipe.batch_size, self._random) / self.mixture.scale

    def _latents(self) -> Tensor:
        return torch.randn(self.recipe.batch_size, LATENT_DIM, generator=self._random, dtype=torch.float32)

    @torch.no_grad()
    def samples(self, n: int, seed: int = 0) -> Tensor:
        """n points of the averaged generator, [n, 2], on the scale of the mixture."""
        z = torch.randn(n, LATENT_DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
        return self._average(z) * self.mixture.scale

    @torch.no_grad()
    def judge(self, points: Tensor) -> Tensor:
        """The critic's outputs at points [n, 2] on the scale of the mixture: [n]. A packed critic sees each m times."""
        m = self.recipe.pack
        return self.critic(points.repeat_interleave(m, dim=0) / self.mixture.scale).flatten()

    def coverage(self, n: int = 2500, seed: int = 1) -> ModeCoverage:
        """How much of the mixture n samples cover."""
        return mode_coverage(self.mixture, self.samples(n, seed))


SNAPSHOT_EVERY, SNAPSHOT_BATCHES = 50, 50
"""Of variance-reduced extragradient: an epoch, were the data 50 batches."""


def perceptron(inputs: int, outputs: int, activation: nn.Module) -> nn.Sequential:
    """Three hidden layers."""
    layers: list[nn.Module] = [nn.Linear(inputs, WIDTH), activation]
    for _ in range(2):
        layers += [nn.Linear(WIDTH, WIDTH), activation]
    return nn.Sequential(*layers, nn.Linear(WIDTH, outputs))


def plane_critic(recipe: PlaneRecipe) -> nn.Module:
    """A perceptron, with minibatch discrimination before its last layer or packing where the recipe has them."""
    critic: nn.Module = perceptron(2 * recipe.pack, 1, nn.LeakyReLU(0.2))
    if recipe.minibatch:
        similarities = MinibatchDiscrimination(WIDTH, recipe.minibatch, kernel_dims=8)
        critic = nn.Sequential(*list(critic.children())[:-1], similarities, nn.Linear(WIDTH + recipe.minibatch, 1))
    return PackedCritic(critic, recipe.pack) if recipe.pack > 1 else critic
