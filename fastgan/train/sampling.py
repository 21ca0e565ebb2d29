"""Images from a generator, the same for the same seed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from fastgan.errors import UserError, one_line
from fastgan.models import PRESETS
from fastgan.train.checkpoint import find_checkpoint, read_checkpoint
from fastgan.train.config import TrainConfig, choose_device
from fastgan.train.state import below

BATCH = 256
"""Images drawn at a time, which bounds the memory."""


@dataclass(frozen=True)
class TrainedGenerator:
    """What a run learnt: the averaged generator, ready to sample.

    Attributes:
        network: in evaluation mode, without gradients; float32 [B, latent_dim] -> images in [-1, 1].
        latent_dim: numbers in a latent vector.
        config: the settings of the run.
        step: steps that it was trained for.
    """

    network: nn.Module
    latent_dim: int
    config: TrainConfig
    step: int

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def sample(self, n: int, seed: int = 0, psi: float = 1.0) -> Tensor:
        """n images, float32 [n, C, H, W] in [-1, 1] on the CPU; the same for the same seed.

        `psi` draws the latents of a StyleGAN2 towards their mean (truncation); 1 for any other network.

        Raises:
            UserError: psi is not 1, and the network has no styles.
        """
        if psi == 1:
            return draw(self.network, self.latent_dim, n, seed, self.device)
        if not PRESETS[self.config.preset].styled:
            raise UserError(
                f"--psi is {psi:g}, expected 1: the generator of {self.config.preset} has no styles to truncate"
            )
        return draw(partial(self.network, psi=psi), self.latent_dim, n, seed, self.device)


def load_generator(path: str | Path, device: str = "cpu") -> TrainedGenerator:
    """Loads the averaged generator of a run.

        images = load_generator("runs/digits").sample(64, seed=0)

    Args:
        path: a checkpoint, or a run's folder for its newest one.
        device: cpu, cuda, cuda:N, or auto for a GPU if there is one.

    Raises:
        UserError: there is no checkpoint, it is damaged or of another version, or there is no such device.
    """
    place = choose_device(device)
    file = find_checkpoint(path, "CHECKPOINT")
    tensors, header = read_checkpoint(file)
    try:
        config = TrainConfig(**header["config"])
        preset = PRESETS[config.preset]
        network, _ = config.networks()
        network.load_state_dict(below(tensors, "average"))
    except (KeyError, TypeError, RuntimeError, UserError) as error:
        raise UserError(f"{file} does not fit this version of fastgan: {one_line(error)}") from error
    network = network.to(place).eval().requires_grad_(False)
    return TrainedGenerator(network, preset.latent_dim, config, header["step"])


@torch.no_grad()
def draw(network: Callable[[Tensor], Tensor], latent_dim: int, n: int, seed: int, device: torch.device) -> Tensor:
    """Samples of a generator in evaluation mode, on that device: float32 [n, C, H, W] on the CPU."""
    latents = draw_latents(latent_dim, n, seed)
    return torch.cat([network(part.to(device)).cpu() for part in latents.split(BATCH)])


def draw_latents(latent_dim: int, n: int, seed: int) -> Tensor:
    """Standard normal, float32 [n, latent_dim]: drawn on the CPU, and so the same for every device."""
    return torch.randn(n, latent_dim, generator=torch.Generator().manual_seed(seed))
