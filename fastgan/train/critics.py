"""What a run's critic makes of images: the features that its last layer judges."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastgan.errors import UserError
from fastgan.models.headed import is_headed
from fastgan.nn import spectral_norm_, unpack
from fastgan.ops._common.checks import check_shape
from fastgan.train.config import TrainConfig
from fastgan.train.critic_norms import ReferencedCritic
from fastgan.train.labels import Batch
from fastgan.train.networks import build_critic
from fastgan.train.packs import inside
from fastgan.train.restore import restore
from fastgan.train.sampling import BATCH


@dataclass(frozen=True)
class TrainedCritic:
    """The critic of a run, as it was at a checkpoint.

    Attributes:
        network: all of it, with what the objective and the classes made of the preset's critic; in evaluation mode,
            without gradients.
        config: the settings of the run.
        step: steps that it was trained for.
        digest: of the files that it was trained on; empty for built-in data.
    """

    network: nn.Module
    config: TrainConfig
    step: int
    digest: str = ""

    @property
    def num_features(self) -> int:
        """F, the numbers that describe an image."""
        return self._preset_critic().num_features

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """The penultimate layer's outputs, which the head of the preset's critic judges: float32 [N, F] on the CPU.

        Each is of one image, but for StyleGAN2: its critic compares the images of a group first, so that features
        depend a little on the images beside. The critic is run on batches of 256, without noise and dropout. Where the
        critic is an autoencoder, the head is the layer that makes the code.

        Args:
            images: float32 [N, C, H, W] in [-1, 1] of the run's shape, N at least 1.

        Raises:
            UserError: the critic judges packs, whose features are not of one image.
            TypeError, ValueError: the images are of another dtype or shape.
        """
        critic = self._preset_critic()
        channels, (height, width) = self.config.image_shape
        check_shape("features", "images", images, ("N", channels, height, width))
        if not len(images):
            raise ValueError(f"features: images has shape {list(images.shape)}, expected at least one image")
        device = next(self.network.parameters()).device
        referenced = [module for module in self.network.modules() if isinstance(module, ReferencedCritic)]
        with referenced[0].referenced() if referenced else nullcontext():
            return torch.cat([critic.penultimate(part.float().to(device)).cpu() for part in images.split(BATCH)])

    def _preset_critic(self) -> Any:
        """The critic with a head: somewhere within noise, labels or an autoencoder."""
        if self.config.pack > 1:
            raise UserError(
                f"CHECKPOINT holds a critic of packs of {self.config.pack}, whose features are of whole packs; "
                "expected a run without --pack"
            )
        found = next((module for module in self.network.modules() if is_headed(module)), None)
        if found is None:
            raise UserError(
                f"CHECKPOINT holds the preset {self.config.preset}, whose critic has no penultimate layer; expected "
                "one with `penultimate`, `head` and `num_features`"
            )
        return found


def load_critic(path: str | Path, device: str = "cpu") -> TrainedCritic:
    """Loads the critic of a run.

        critic = load_critic("runs/digits")
        distance = frechet_distance(critic.features(real), critic.features(fake))

    PyTorch's global generators are left as they were.

    Args:
        path: a checkpoint, or a run's folder for its newest one.
        device: cpu, cuda, cuda:N, or auto for a GPU if there is one.

    Raises:
        UserError: there is no checkpoint, it is damaged or of another version, or there is no such device.
    """
    found = restore(path, device, "critic", _build)
    return TrainedCritic(found.network, found.config, found.step, found.digest)


def _build(config: TrainConfig, num_classes: int, tensors: dict[str, Tensor]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        network = build_critic(config, num_classes, _reference(config, tensors))
        if config.spectral_norm:
            spectral_norm_(inside(network))
    return network


def _reference(config: TrainConfig, tensors: dict[str, Tensor]) -> Batch | None:
    """The reference batch of the critic's virtual batch norm, as data; None without."""
    if config.critic_norm != "virtual-batch":
        return None
    outer = "critic." if config.pack > 1 else ""
    return Batch(unpack(tensors[f"{outer}images"], config.pack), tensors.get(f"{outer}labels"))
