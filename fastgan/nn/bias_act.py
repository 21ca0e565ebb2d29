"""The biased activation between two convolutions, as a layer."""

import torch
from torch import Tensor, nn
from torch.types import Device

from fastgan.ops._common.activations import resolved
from fastgan.ops._common.checks import check_count
from fastgan.ops.bias_act import bias_act


class BiasAct(nn.Module):
    """A learned bias, an activation, a gain and a clamp: what follows a convolution built with `bias=False`.

    Args:
        num_features: channels of the input, along dimension `dim`.
        act, alpha, gain, clamp, dim: as in `fastgan.ops.bias_act`.
        device, dtype: of the bias, as in torch.nn.

    Shape: any shape with `num_features` along `dim` -> the same.

    Raises:
        ValueError, TypeError: as `fastgan.ops.bias_act`, for these arguments when it is built.
    """

    def __init__(
        self,
        num_features: int,
        act: str = "lrelu",
        alpha: float | None = None,
        gain: float | None = None,
        clamp: float | None = None,
        dim: int = 1,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_count("BiasAct", "num_features", num_features)
        resolved("BiasAct", act, alpha, gain, clamp)
        self.act, self.alpha, self.gain, self.clamp, self.dim = act, alpha, gain, clamp, dim
        self.bias = nn.Parameter(torch.empty(num_features, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Sets the bias to 0."""
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return bias_act(x, self.bias, self.dim, self.act, self.alpha, self.gain, self.clamp)

    def extra_repr(self) -> str:
        given = {"alpha": self.alpha, "gain": self.gain, "clamp": self.clamp}
        options = "".join(f", {name}={value}" for name, value in given.items() if value is not None)
        return f"{self.bias.numel()}, act={self.act!r}{options}" + (f", dim={self.dim}" if self.dim != 1 else "")
