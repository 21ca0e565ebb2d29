"""The two players' networks as a run's settings describe them, with fresh weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from fastgan.default_dtype import float32_by_default
from fastgan.errors import UserError
from fastgan.losses.began_loss import Began
from fastgan.models import PRESETS
from fastgan.nn import InstanceNoise, LogitAndFeatures, PackedCritic, ReconstructionError, pack
from fastgan.options import option
from fastgan.train.config import TrainConfig
from fastgan.train.critic_norms import ReferencedCritic, replace_batch_norm
from fastgan.train.labels import Batch

FEATURES = 16
"""Of a critic whose features are compared: as in Binkowski et al. 2018, arXiv:1801.01401, section 4."""


@float32_by_default()
def build_generator(config: TrainConfig, num_classes: int) -> nn.Module:
    """The preset's generator, class-conditional where the run tells it classes.

    Args:
        config: the run's settings.
        num_classes: of the data; looked at only where the generator is told them.

    Raises:
        UserError: the preset's networks cannot have this resolution.
    """
    told = {"num_classes": num_classes} if config.conditioning.tells_generator else {}
    with _resolution(config):
        return PRESETS[config.preset].generator(**_shape(config), **told)


@float32_by_default()
def build_critic(config: TrainConfig, num_classes: int, reference: Batch | None = None) -> nn.Module:
    """The preset's critic, with what the objective and the classes need: a logit, features, both, class logits.

    For objectives of a reconstruction error it is an autoencoder made of the preset's two networks. Batch norm is
    replaced where the run says so. Instance noise is added first, to a reference batch too; for packs the critic has as
    many times the channels, inside a PackedCritic.

    Args:
        config: the run's settings.
        num_classes: of the data; looked at only where the run uses them.
        reference: data for virtual batch norm, with the labels that the critic is told; None without.

    Raises:
        UserError: the preset's networks cannot have this resolution.
    """
    with _resolution(config):
        critic = _judge(config, num_classes)
    if config.critic_norm:
        replace_batch_norm(critic, config.critic_norm)
    if config.instance_noise:
        critic = _BehindNoise(InstanceNoise(config.instance_noise, config.instance_noise_steps), critic)
    if reference is not None:
        critic = ReferencedCritic(critic, pack(reference.images, config.pack), reference.labels)
    return PackedCritic(critic, config.pack) if config.pack > 1 else critic


def _judge(config: TrainConfig, num_classes: int) -> nn.Module:
    preset, shape, loss = PRESETS[config.preset], _shape(config), config.objective
    judged = {**shape, "channels": config.pack * shape["channels"]}
    if loss.output == "features":
        return preset.critic(**judged, outputs=FEATURES)
    if loss.output == "logit and features":
        return LogitAndFeatures(preset.critic(**judged), preset.features)
    if loss.output == "error":
        # The critic's body encodes, a generator's decodes: what BEGAN does, and near enough to EBGAN.
        autoencoder = nn.Sequential(preset.critic(**shape, outputs=preset.latent_dim), preset.generator(**shape))
        error = ReconstructionError(autoencoder, power=1 if isinstance(loss, Began) else 2)
        return LogitAndFeatures(error, "autoencoder.0") if config.pulling_away else error
    return config.conditioning.critic(partial(preset.critic, **judged), num_classes)


class _BehindNoise(nn.Sequential):
    """Noise, then a critic, which may be called with labels besides."""

    def forward(self, images: Tensor, *labels: Tensor) -> Tensor:
        noise, critic = self
        return critic(noise(images), *labels)


def _shape(config: TrainConfig) -> dict[str, Any]:
    channels, (height, width) = config.image_shape
    return {"channels": channels, "resolution": height if height == width else (height, width)}


@contextmanager
def _resolution(config: TrainConfig) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise UserError(f"{option('resolution')} is {config.resolution!r}: {error}") from None
