"""Minibatch discrimination as a layer of the critic."""

import torch
from torch import Tensor, nn
from torch.types import Device

from fastgan.ops._common.checks import check_count, check_shape
from fastgan.ops.minibatch_discrimination import minibatch_discrimination


class MinibatchDiscrimination(nn.Module):
    """Concatenates to each sample's features how close they are to those of the rest of the batch.

    A critic that sees one sample at a time cannot notice that all of them look alike; with these features it can.
    Salimans et al. 2016, Improved Techniques for Training GANs, section 3.2.

    Args:
        in_features: A, features of a sample.
        out_features: B in the paper: how many similarities are appended.
        kernel_dims: C in the paper: dimensions in which each of them measures its L1 distance.
        device, dtype: of the weight, as in torch.nn.

    Shape: [batch, in_features] -> [batch, in_features + out_features]
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_dims: int,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, value in (
            ("in_features", in_features),
            ("out_features", out_features),
            ("kernel_dims", kernel_dims),
        ):
            check_count("MinibatchDiscrimination", name, value)
        self.in_features, self.out_features, self.kernel_dims = in_features, out_features, kernel_dims
        self.weight = nn.Parameter(torch.empty(in_features, out_features * kernel_dims, device=device, dtype=dtype))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws weights for which features of order one have distances of order one: exp(-distance) is not 0 or 1."""
        self.weight.normal_().mul_(1.0 / (self.kernel_dims * self.in_features**0.5))

    def forward(self, x: Tensor) -> Tensor:
        check_shape("MinibatchDiscrimination", "x", x, ("batch", self.in_features))
        m = (x @ self.weight).view(-1, self.out_features, self.kernel_dims)
        return torch.cat([x, minibatch_discrimination(m)], dim=1)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, kernel_dims={self.kernel_dims}"
