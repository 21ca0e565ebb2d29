"""Samples of networks in evaluation mode, the same for the same seed on every device."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fastgan.tasks.labels import given

BATCH = 256
"""Samples made at a time, which bounds the memory."""


def draw_latents(latent_dim: int, n: int, seed: int) -> Tensor:
    """Standard normal, float32 [n, latent_dim]: drawn on the CPU, and so the same for every device."""
    return torch.randn(n, latent_dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


@torch.no_grad()
def in_parts(
    network: Callable[..., Tensor],
    device: torch.device,
    *inputs: Tensor | None,  # [n, ...] each
) -> Tensor:  # [n, ...]
    """What a network makes of inputs, some at a time; float32 on the CPU. Inputs that are None are left out."""
    present = [tensor for value in inputs for tensor in given(value)]
    parts = zip(*(tensor.split(BATCH) for tensor in present), strict=True)
    return torch.cat([network(*(tensor.to(device) for tensor in part)).float().cpu() for part in parts])


def place_of(network: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Where a network is, and the dtype of its parameters."""
    first = next(network.parameters())
    return first.device, first.dtype
