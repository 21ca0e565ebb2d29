"""`Preset`: a generator and a critic, with the recipe that they were tuned with."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Recipe:
    """The settings of training that go with a pair of networks; each can be overridden.

    Attributes:
        loss: a name in `fastgan.losses.LOSSES`.
        steps: updates of each player.
        batch_size: images per update.
        lr: the generator's learning rate.
        lr_critic: the critic's learning rate.
        beta1, beta2: Adam's decay rates, for both players.
        ema: decay of the averaged generator per step.
        penalty: the critic's gradient penalties as `fastgan.penalties.parse` reads them, empty for none.
        penalty_every: steps between two with penalties, which then weigh as many times as much (lazy regularisation).
        path_length: weight of the generator's path-length regularisation, 0 for none.
        path_length_every: steps between two with it, likewise.
    """

    loss: str
    steps: int
    batch_size: int
    lr: float
    lr_critic: float
    beta1: float
    beta2: float
    ema: float
    penalty: str = ""
    penalty_every: int = 1
    path_length: float = 0.0
    path_length_every: int = 4


@dataclass(frozen=True)
class Preset:
    """A generator and a critic that fit each other, by name.

    Attributes:
        name: how the Python API and the command line call it.
        about: one line for the help.
        channels, resolution: of the images, unless others are asked for; height and width are equal.
        latent_dim: numbers in a latent vector.
        generator: makes a module, float32 [B, latent_dim] -> [B, channels, height, width] in about [-1, 1]; the
            keywords `channels` and `resolution` ask for other images than the preset's, and `num_classes` for a
            class-conditional one, called with labels [B] besides; not where it is styled.
        critic: makes a module, images -> logits [B, 1]; keywords likewise, and `outputs` for features [B, outputs].
        recipe: the settings that it was tuned with.
        features: the critic's submodule whose outputs are matched by an objective of a logit and features.
        styled: whether the generator is a StyleGAN's, with w latents to truncate, to mix and to regularise.
        batch_norm: whether the critic has batch norm, which a run may replace.
    """

    name: str
    about: str
    channels: int
    resolution: int
    latent_dim: int
    generator: Callable[..., nn.Module]
    critic: Callable[..., nn.Module]
    recipe: Recipe
    features: str = "features"
    styled: bool = False
    batch_norm: bool = False
