"""StyleGAN's mapping network, from latents z to the latents w that control the styles."""

import itertools
from typing import cast

import torch
from torch import Tensor, nn
from torch.types import Device

from fastgan.nn.equalized import EqualizedLinear
from fastgan.ops._common.checks import check_count, check_shape
from fastgan.ops._common.precision import compute_dtype


class MappingNetwork(nn.Module):
    """Fully connected layers from a normalised z to w, with a moving average of w for truncation.

    Karras et al. 2019, A Style-Based Generator Architecture, arXiv:1812.04948, sections 2 and B (truncation).

    Args:
        z_dim, w_dim: numbers in a latent z and w.
        num_layers: how many layers there are, at least 1.
        lr_multiplier: how much slower they learn than the rest.
        w_avg_decay: of the moving average, per forward pass in training, from 0 to 1.
        device, dtype: of the parameters and buffers, as in torch.nn.

    Shape: [B, z_dim] -> [B, w_dim]

    Raises:
        ValueError: an argument, or the shape of an input, is none of these.
        TypeError: an input is not a floating tensor.
    """

    w_avg: Tensor

    def __init__(
        self,
        z_dim: int,
        w_dim: int,
        num_layers: int = 8,
        lr_multiplier: float = 0.01,
        w_avg_decay: float = 0.998,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, value in {"z_dim": z_dim, "w_dim": w_dim, "num_layers": num_layers}.items():
            check_count("MappingNetwork", name, value)
        if not 0 <= w_avg_decay <= 1:
            raise ValueError(f"MappingNetwork: w_avg_decay is {w_avg_decay}, expected a number from 0 to 1")
        self.z_dim, self.w_avg_decay = z_dim, w_avg_decay
        sizes = [z_dim] + [w_dim] * num_layers
        self.layers = nn.Sequential(
            *(
                EqualizedLinear(before, after, act="lrelu", lr_multiplier=lr_multiplier, device=device, dtype=dtype)
                for before, after in itertools.pairwise(sizes)
            )
        )
        self.register_buffer("w_avg", torch.zeros(w_dim, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Draws the layers' parameters, and sets the moving average to 0."""
        for layer in self.layers:
            cast(EqualizedLinear, layer).reset_parameters()
        self.w_avg.zero_()

    def forward(self, z: Tensor, psi: float = 1.0) -> Tensor:
        """w for each z; truncation psi < 1 moves it towards the average w: less variety, fewer bad samples."""
        check_shape("MappingNetwork", "z", z, ("batch", self.z_dim))
        z = z.to(compute_dtype(self.w_avg))  # in float16 1e-8 is 0
        w = self.layers((z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()).to(self.w_avg.dtype))
        if self.training and len(w) > 0:
            with torch.no_grad():
                self.w_avg.lerp_(w.detach().to(self.w_avg.dtype).mean(0), 1 - self.w_avg_decay)
        return w if psi == 1 else torch.lerp(self.w_avg.to(w.dtype), w, psi)  # w is in half precision under autocast

    def extra_repr(self) -> str:
        return f"{self.z_dim}, {self.w_avg.numel()}, num_layers={len(self.layers)}, w_avg_decay={self.w_avg_decay}"
