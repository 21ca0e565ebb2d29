"""The settings of a run: complete, checked and writable as JSON."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer

from fastgan.data import DIGITS
from fastgan.errors import UserError
from fastgan.games import Game, Method, VarianceReducedExtragradient, kind_of
from fastgan.games import parse as parse_method
from fastgan.losses import Loss
from fastgan.losses import parse as parse_loss
from fastgan.losses.began_loss import Began
from fastgan.models import PRESETS
from fastgan.options import check_one_of, option, wrong
from fastgan.penalties import Penalty, parse
from fastgan.train.conditioning import UNCONDITIONAL, Conditioning
from fastgan.train.conditioning import parse as parse_conditioning
from fastgan.train.critic_norms import CRITIC_NORMS
from fastgan.train.regularisation import Regularisation

CHANGEABLE = frozenset({"out", "steps", "device", "log_every", "sample_every", "save_every", "keep"})
"""What may differ when a run is resumed; anything else would make it another run."""

_KINDS: dict[Any, tuple[Any, str]] = {
    int: (int, "a whole number"),
    float: ((int, float), "a number"),
    bool: (bool, "True or False"),
    str: (str, "a string"),
}
"""What is accepted where an attribute of TrainConfig has this type, and what it is called."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what a training run does. `TrainConfig.for_preset` fills in a preset's recipe.

    Attributes:
        out: the run's folder.
        preset: a name in `fastgan.models.PRESETS`.
        loss: a name in `fastgan.losses.LOSSES`, or what `fastgan.losses.parse` reads, as `fgan:alpha:0.5`.
        steps: updates of each player, from the start of the run.
        batch_size: images per update, at most the size of the data set.
        lr, lr_critic: learning rates of Adam for the generator and the critic.
        beta1, beta2: Adam's decay rates, for both players; the preset's where these step by SGD.
        ema: decay of the averaged generator per step.
        optimizer: how the game is played, as `fastgan.games.parse` reads it: `alternating`, `alternating:5` (steps of
            the critic for each of the generator), `extragradient`, `consensus:1`, ... The players step by Adam, or by
            SGD where the method is about steps of that form.
        penalty: the critic's gradient penalties, e.g. `r1:10,r2:10`; empty or `none` for no penalty.
        penalty_every: steps between two with the penalties, which then weigh as many times as much.
        path_length: weight of the generator's path-length regularisation, for StyleGAN2 only; 0 for none.
        path_length_every: steps between two with it, which then weighs as many times as much.
        pulling_away: weight of the term in the generator's loss that keeps a batch of samples apart, for `ebgan` only
            (0.1 in its paper); 0 for none.
        clip_weights: largest size of the critic's weights, to which its updates are clipped; 0 for no clipping.
        critic_norm: what replaces the batch norm of the preset's critic, a name in
            `fastgan.train.critic_norms.CRITIC_NORMS`: `none`; `batch`; `batch-renorm`, whose schedule counts calls of
            the critic; `virtual-batch`, whose reference batch are data drawn at the start; `split-batch`, which trains
            as `batch` does and differs in the averages that it leaves. Empty for the preset's critic as it is.
        spectral_norm: whether every convolution and linear layer of the critic is spectrally normalised, not for
            StyleGAN2.
        pack: samples that the critic judges together, a divisor of `batch_size`: 1 for one at a time. Gradient
            penalties are of the whole pack, and minibatch layers of the preset's critic compare packs.
        orthogonal: strength of BigGAN's orthogonal regularisation of the generator's weights, embeddings left out, not
            for StyleGAN2; 0 for none.
        unroll: steps of the critic, on one batch and by its own optimiser, after which it judges the generator, whose
            gradient goes through all of them; 0 for the critic as it is. Each costs more than an update of the critic.
        instance_noise: standard deviation of the Gaussian noise on whatever the critic sees, at the first step; images
            are in [-1, 1]. 0 for none. It adds to the constant noise that the critic of `digits-dcgan` has itself.
        instance_noise_steps: steps over which that falls to 0, linearly; 0 for all `steps` that the run is started
            with. A resumed run keeps to it, whatever its `steps`.
        conditional: how the classes of the data are used, as `fastgan.train.conditioning.parse` reads it:
            `projection`, `auxiliary-classifier`, `semi-supervised`; empty for a run without classes.
        data: `digits`, `stacked-digits`, `textures` or a folder of images.
        resolution: of the images, `64` or height x width as `64x32`; empty for the preset's.
        channels: of the images, 1 or 3; 0 for the preset's.
        seed: of every random stream: weights, data order, latents, dropout.
        device: `cpu`, `cuda`, `cuda:1`, ..., or `auto` for a GPU if there is one.
        log_every, sample_every, save_every: steps between log lines, sample grids and checkpoints.
        keep: how many checkpoints are kept.

    Raises:
        UserError: a value is of another type or out of range, goes with no other, or changes nothing; the message names
            the option as on the command line.
    """

    out: str
    preset: str
    loss: str
    steps: int
    batch_size: int
    lr: float
    lr_critic: float
    beta1: float
    beta2: float
    ema: float
    optimizer: str = "alternating"
    penalty: str = ""
    penalty_every: int = 1
    path_length: float = 0.0
    path_length_every: int = 4
    pulling_away: float = 0.0
    clip_weights: float = 0.0
    critic_norm: str = ""
    spectral_norm: bool = False
    pack: int = 1
    orthogonal: float = 0.0
    unroll: int = 0
    instance_noise: float = 0.0
    instance_noise_steps: int = 0
    conditional: str = ""
    data: str = DIGITS
    resolution: str = ""
    channels: int = 0
    seed: int = 0
    device: str = "auto"
    log_every: int = 50
    sample_every: int = 500
    save_every: int = 500
    keep: int = 3

    @classmethod
    def for_preset(cls, preset: str, out: str | Path, **changes: Any) -> "TrainConfig":
        """The preset's recipe, with `changes` to any of the attributes above.

        Raises:
            UserError: there is no such preset, or a value is out of range.
        """
        check_one_of("preset", preset, PRESETS)
        recipe = dataclasses.asdict(PRESETS[preset].recipe)
        return cls(**{**recipe, "preset": preset, "out": str(out), **changes})

    def __post_init__(self) -> None:
        self._check_types()
        check_one_of("preset", self.preset, PRESETS)
        _ = self.objective
        positive = ("steps", "batch_size", "penalty_every", "path_length_every", "log_every", "sample_every")
        for name in (*positive, "save_every", "keep", "pack"):
            if getattr(self, name) < 1:
                raise wrong(name, getattr(self, name), "at least 1")
        for name in ("lr", "lr_critic"):
            if not 0 < getattr(self, name) < float("inf"):
                raise wrong(name, getattr(self, name), "a number above 0")
        for name in ("beta1", "beta2", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise wrong(name, getattr(self, name), "at least 0 and below 1")
        for name in ("path_length", "pulling_away", "clip_weights", "orthogonal", "instance_noise"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise wrong(name, getattr(self, name), "a number of at least 0")
        if self.clip_weights and self.spectral_norm:
            raise wrong("clip_weights", self.clip_weights, "0: --spectral-norm bounds the same weights")
        if self.spectral_norm and PRESETS[self.preset].styled:
            reason = f"False: the layers of {self.preset} divide their weights by the root of their inputs' number"
            raise wrong("spectral_norm", self.spectral_norm, f"{reason}, which would leave little of a norm of 1")
        if self.path_length and not PRESETS[self.preset].styled:
            raise wrong("path_length", self.path_length, f"0: the generator of {self.preset} has no styles")
        if self.orthogonal and PRESETS[self.preset].styled:
            reason = f"0: the styles of {self.preset} turn the filters of each sample, whatever those stored are"
            raise wrong("orthogonal", self.orthogonal, reason)
        if self.channels not in (0, 1, 3):
            raise wrong("channels", self.channels, "1 or 3")
        _ = self.image_shape
        if not 0 <= self.seed < 2**63:
            raise wrong("seed", self.seed, "0 to 2^63 - 1")
        _penalties(self.penalty)
        _ = self._trial_game()
        self._check_objective()
        self._check_critic_norm()
        self._check_conditioning()
        self._check_packs()
        self._check_unrolling()
        self._check_snapshots()
        self._check_idle()
        self._settle_noise()

    def _check_types(self) -> None:
        for field in dataclasses.fields(self):
            value, (kind, expected) = getattr(self, field.name), _KINDS[field.type]
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise wrong(field.name, value, expected)

    def _check_idle(self) -> None:
        """Refuses what would change nothing: an interval without its term, Adam's rates where the players step by SGD.

        A preset's own values are accepted, as they come with it whatever is trained.
        """
        recipe = PRESETS[self.preset].recipe
        for name, usual, used in (
            ("penalty_every", (1, recipe.penalty_every), _penalties(self.penalty)),
            ("path_length_every", (recipe.path_length_every,), self.path_length),
        ):
            if not used and getattr(self, name) not in usual:
                without = option(name.removesuffix("_every"))
                raise wrong(name, getattr(self, name), f"{usual[0]} without {without}, of which it is the interval")
        for name in ("beta1", "beta2"):
            usual_rate = getattr(recipe, name)
            if kind_of(self.optimizer).plain and getattr(self, name) != usual_rate:
                reason = f"{usual_rate}, the preset's: under {self.optimizer} the players step by SGD, not by Adam"
                raise wrong(name, getattr(self, name), reason)

    def _check_objective(self) -> None:
        if self.path_length and self._trial_game().second_order:
            reason = f"0: {self.optimizer} differentiates the generator's loss twice, and path lengths are derivatives"
            raise wrong("path_length", self.path_length, reason)
        if self.objective.output == "error" and PRESETS[self.preset].styled:
            raise wrong("loss", self.loss, f"an objective of logits or features: {self.preset} makes no autoencoder")
        if self.pulling_away and (self.objective.output != "error" or isinstance(self.objective, Began)):
            raise wrong("pulling_away", self.pulling_away, f"0: it is a part of ebgan, and --loss is {self.loss}")
        if self.pulling_away and self.batch_size < 2:
            raise wrong("batch_size", self.batch_size, "at least 2: --pulling-away compares samples with each other")

    def _check_critic_norm(self) -> None:
        if not self.critic_norm:
            return
        check_one_of("critic_norm", self.critic_norm, CRITIC_NORMS)
        if not PRESETS[self.preset].batch_norm:
            reason = f"nothing: the critic of {self.preset} has no batch norm to replace"
            raise wrong("critic_norm", self.critic_norm, reason)

    def _check_packs(self) -> None:
        if self.batch_size % self.pack:
            raise wrong("pack", self.pack, f"a divisor of --batch-size, which is {self.batch_size}")
        if self.pack > 1 and self.objective.output == "error":
            reason = f"1: {self.loss} rewards what is easy to reconstruct, as a pack of samples that are all alike is"
            raise wrong("pack", self.pack, reason)
        if self.objective.output == "features" and self.pack == self.batch_size:
            if self.pack == 1:
                raise wrong("batch_size", 1, f"at least 2, as {self.loss} compares samples with each other")
            reason = f"at most half of --batch-size, as {self.loss} compares packs with each other"
            raise wrong("pack", self.pack, reason)
        if self.pack > 1 and self.conditional:
            raise wrong("pack", self.pack, "1: with --conditional every sample has a class, and a pack has none")

    def _check_unrolling(self) -> None:
        if self.unroll < 0:
            raise wrong("unroll", self.unroll, "at least 0")
        if not self.unroll:
            return
        if self._trial_game().second_order:
            reason = (
                f"0: {self.optimizer} differentiates the generator's loss by the critic, of which unrolling has copies"
            )
            raise wrong("unroll", self.unroll, reason)
        if _penalties(self.penalty):
            reason = (
                "none: --unroll differentiates the critic's steps, for which a penalty would need third derivatives"
            )
            raise wrong("penalty", self.penalty, reason)
        if self.clip_weights:
            raise wrong("clip_weights", self.clip_weights, "0: --unroll looks through steps that clip nothing")

    def _check_snapshots(self) -> None:
        if kind_of(self.optimizer) is not VarianceReducedExtragradient:
            return
        for name, used in (("penalty_every", _penalties(self.penalty)), ("path_length_every", self.path_length)):
            every = getattr(self, name)
            if used and every > 1:
                reason = f"1: {self.optimizer} keeps one step's mean gradient for an epoch, which would have the term"
                raise wrong(name, every, f"{reason} {every}-fold, or not at all")

    def _settle_noise(self) -> None:
        steps = self.instance_noise_steps
        if steps < 0 or (steps and not self.instance_noise):
            expected = "at least 0" if steps < 0 else "0 without --instance-noise"
            raise wrong("instance_noise_steps", steps, expected)
        if self.instance_noise and not steps:  # written down, as `steps` may change when the run is resumed
            object.__setattr__(self, "instance_noise_steps", self.steps)

    def _check_conditioning(self) -> None:
        conditioning = self.conditioning
        if conditioning is UNCONDITIONAL:
            return
        if self.objective.output != "logit":
            raise wrong("loss", self.loss, f"an objective of logits: --conditional {self.conditional} is made of them")
        if conditioning.tells_generator and PRESETS[self.preset].styled:
            reason = f"semi-supervised, or none: the generator of {self.preset} has no batch norm to make conditional"
            raise wrong("conditional", self.conditional, reason)

    @property
    def conditioning(self) -> Conditioning:
        """How the classes of the data are used, from `conditional`."""
        try:
            return parse_conditioning(self.conditional)
        except ValueError as error:
            raise UserError(f"{option('conditional')} is {error}") from None

    @property
    def objective(self) -> Loss:
        """What the players minimise, from `loss`."""
        try:
            return parse_loss(self.loss)
        except ValueError as error:
            raise UserError(f"{option('loss')} is {error}") from None

    @property
    def method(self) -> Method:
        """What makes the game's optimiser of the players' ones, from `optimizer`."""
        try:
            return parse_method(self.optimizer)
        except ValueError as error:
            raise UserError(f"{option('optimizer')} is {error}") from None

    def _trial_game(self) -> Game:
        """A game of one number for each player, as what it is may depend on its settings: runge-kutta is of second
        order with a weight alone."""
        method = self.method
        players = (self.optimizer_of(nn.ParameterList([torch.zeros(1)]), lr) for lr in (self.lr_critic, self.lr))
        try:
            return method(*players)
        except ValueError as error:  # of a setting
            raise UserError(f"{option('optimizer')} is {self.optimizer!r}: {error}") from None

    def optimizer_of(self, network: nn.Module, lr: float) -> Optimizer:
        """A player's own optimiser."""
        if kind_of(self.optimizer).plain:
            return SGD(network.parameters(), lr)
        # One fused kernel instead of a dozen small operations for each parameter.
        return Adam(network.parameters(), lr, (self.beta1, self.beta2), fused=True)

    @property
    def regularisation(self) -> Regularisation:
        """What the players are regularised by: penalties, path lengths, orthogonal filters and unrolling."""
        return Regularisation(
            _penalties(self.penalty),
            self.penalty_every,
            self.path_length,
            self.path_length_every,
            self.orthogonal,
            self.unroll,
        )

    @property
    def image_shape(self) -> tuple[int, tuple[int, int]]:
        """Channels, and height and width, of the images."""
        preset = PRESETS[self.preset]
        sizes = (self.resolution or str(preset.resolution)).split("x")
        if len(sizes) > 2 or not all(size.isdecimal() for size in sizes):
            raise wrong("resolution", self.resolution, "a size such as 64, or height and width as in 64x32")
        return self.channels or preset.channels, (int(sizes[0]), int(sizes[-1]))

    def resumed(self, **changes: Any) -> "TrainConfig":
        """These settings with the changes that a resumed run may make.

        Raises:
            UserError: a change would make it another run, or a value is out of range.
        """
        for name, value in changes.items():
            stored = getattr(self, name)
            same = _penalties(value) == _penalties(self.penalty) if name == "penalty" else value == stored
            if name not in CHANGEABLE and not same:
                raise UserError(
                    f"{option(name)} is {value!r}, but the run was started with {stored!r}; "
                    "expected the same, or a new --out without --resume"
                )
        return dataclasses.replace(self, **changes)


def _penalties(text: str) -> tuple[Penalty, ...]:
    try:
        return parse(text)
    except ValueError as error:
        raise UserError(f"{option('penalty')} is {text!r}: {error}") from None
