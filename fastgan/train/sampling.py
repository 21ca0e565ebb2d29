"""Images from a generator, the same for the same seed."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from fastgan.data import Images, load
from fastgan.errors import UserError
from fastgan.models import PRESETS
from fastgan.ops._common.checks import check_labels
from fastgan.train.class_names import labels_of
from fastgan.train.config import TrainConfig
from fastgan.train.labels import draw_labels, given
from fastgan.train.networks import build_generator
from fastgan.train.restore import restore
from fastgan.train.state import seeds

BATCH = 256
"""Images drawn at a time, which bounds the memory."""


@dataclass(frozen=True)
class TrainedGenerator:
    """What a run learnt: the averaged generator, ready to sample.

    Attributes:
        network: in evaluation mode, without gradients; float32 [B, latent_dim], and labels, int64 [B], where there are
            classes -> images in [-1, 1].
        latent_dim: numbers in a latent vector.
        config: the settings of the run.
        step: steps that it was trained for.
        classes: that it can be asked for, in the order of the labels, with the numbers of images that the data have of
            each; empty for an unconditional generator.
        digest: of the files that it was trained on; empty for built-in data.
    """

    network: nn.Module
    latent_dim: int
    config: TrainConfig
    step: int
    classes: dict[str, int] = field(default_factory=dict)
    digest: str = ""

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def labels_of(self, names: Iterable[str]) -> list[int]:
        """The labels of classes by their names, or of several with commas between them.

        Raises:
            UserError: there is no such class, or the generator is unconditional.
        """
        return labels_of(names, list(self.classes))

    def labels(self, n: int, seed: int = 0) -> Tensor:
        """n labels, int64 [n] on the CPU, as frequent as those of the data; the same for the same seed.

        Raises:
            ValueError: the generator is unconditional.
        """
        if not self.classes:
            raise ValueError("labels: the generator is unconditional, expected one that is told classes")
        # Another stream than that of the latents, which the same seed draws.
        random = torch.Generator().manual_seed(seeds(seed, 2)[1])
        return draw_labels(torch.tensor(list(self.classes.values())), n, random)

    def sample(self, n: int, seed: int = 0, psi: float = 1.0, labels: Tensor | int | None = None) -> Tensor:
        """n images, float32 [n, C, H, W] in [-1, 1] on the CPU; the same for the same seed.

        Args:
            n: how many.
            seed: of the latents.
            psi: draws the latents of a StyleGAN2 towards their mean (truncation); 1 for any other network.
            labels: the class of each image, int64 [n], or of all; by default `self.labels(n, seed)` where there are
                classes.

        Raises:
            UserError: psi is not 1, and the network has no styles.
            TypeError, ValueError: the labels are not n classes of this generator.
        """
        if psi != 1 and not PRESETS[self.config.preset].styled:
            raise UserError(
                f"--psi is {psi:g}, expected 1: the generator of {self.config.preset} has no styles to truncate"
            )
        network = self.network if psi == 1 else partial(self.network, psi=psi)
        if labels is None and self.classes:
            labels = self.labels(n, seed)
        told = None if labels is None else self._checked(labels, n)
        return draw(network, draw_latents(self.latent_dim, n, seed), self.device, told)

    def _checked(self, labels: Tensor | int, n: int) -> Tensor:
        if isinstance(labels, int):
            labels = torch.full((n,), labels)
        check_labels("sample", "labels", labels, n)
        wrong = labels[(labels < 0) | (labels >= len(self.classes))]
        if len(wrong) or not self.classes:
            expected = f"0 to {len(self.classes) - 1}" if self.classes else "None: the generator is unconditional"
            raise ValueError(f"sample: labels hold {labels.unique().tolist()}, expected {expected}")
        return labels


def load_generator(path: str | Path, device: str = "cpu") -> TrainedGenerator:
    """Loads the averaged generator of a run.

        images = load_generator("runs/digits").sample(64, seed=0)

    Args:
        path: a checkpoint, or a run's folder for its newest one.
        device: cpu, cuda, cuda:N, or auto for a GPU if there is one.

    Raises:
        UserError: there is no checkpoint, it is damaged or of another version, or there is no such device.
    """
    found = restore(path, device, "average", lambda config, n, _: build_generator(config, n))
    config = found.config
    told = found.classes if config.conditioning.tells_generator else {}
    return TrainedGenerator(found.network, PRESETS[config.preset].latent_dim, config, found.step, told, found.digest)


def training_images(config: TrainConfig, digest: str = "") -> Images:
    """The images that a run was trained on, read again.

    Args:
        config: the run's settings.
        digest: that the files should have, as `TrainedGenerator` and `TrainedCritic` know it; empty for any.

    Raises:
        UserError: they cannot be read, or are others.
    """
    channels, size = config.image_shape
    try:
        images = load(config.data, size, channels)
    except UserError as error:
        raise UserError(f"CHECKPOINT was trained on {config.data!r}, which cannot be read again: {error}") from error
    if digest and digest != images.digest:
        raise UserError(
            f"CHECKPOINT was trained on {config.data!r}, whose files differ in name, size or content from those; "
            "expected the same ones"
        )
    return images


@torch.no_grad()
def draw(
    network: Callable[..., Tensor],
    latents: Tensor,  # [n, latent_dim]
    device: torch.device,
    labels: Tensor | None = None,  # [n]
) -> Tensor:  # [n, C, H, W]
    """Samples of a generator in evaluation mode, on that device: float32 on the CPU."""
    parts = zip(*(tensor.split(BATCH) for tensor in (latents, *given(labels))), strict=True)
    return torch.cat([network(*(tensor.to(device) for tensor in part)).cpu() for part in parts])


def draw_latents(latent_dim: int, n: int, seed: int) -> Tensor:
    """Standard normal, float32 [n, latent_dim]: drawn on the CPU, and so the same for every device."""
    return torch.randn(n, latent_dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
