"""Linear and convolution layers with an equalised learning rate, which StyleGAN's networks are built from.

Weights are stored with unit variance and scaled in the forward pass by He's constant, so that Adam's steps, which have
the same size for every parameter, are the same relative to every layer (Karras et al. 2018, Progressive Growing of
GANs, arXiv:1710.10196, section 4.1).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.types import Device

from fastgan.nn.exact_filter import ExactFilter
from fastgan.ops._common.activations import ACTIVATIONS, resolved
from fastgan.ops._common.checks import check_count, check_floating, check_number, check_shape
from fastgan.ops.bias_act import bias_act
from fastgan.ops.conv2d_resample import conv2d_resample
from fastgan.ops.upfirdn2d.filter import filter_of


class EqualizedLinear(nn.Module):
    """A linear layer with an equalised learning rate, and its activation.

    Args:
        in_features, out_features: as in `torch.nn.Linear`.
        bias: whether there is one.
        bias_init: its initial value.
        act: the activation, as in `fastgan.ops.bias_act`, with its default gain.
        lr_multiplier: how much faster than the optimiser's the learning rate of this layer is; weights are drawn with
            standard deviation 1 / lr_multiplier.
        device, dtype: of the weight and the bias, as in torch.nn.

    Shape: [..., in_features] -> [..., out_features]

    Raises:
        ValueError: an argument, or the shape of an input, is none of these.
        TypeError: an input is not a floating tensor.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        bias_init: float = 0.0,
        act: str = "linear",
        lr_multiplier: float = 1.0,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_count("EqualizedLinear", "in_features", in_features)
        check_count("EqualizedLinear", "out_features", out_features)
        resolved("EqualizedLinear", act, None, None, None)
        check_number("EqualizedLinear", "lr_multiplier", lr_multiplier, above=True)
        self.in_features, self.act, self.lr_multiplier = in_features, act, lr_multiplier
        self.bias_init = float(bias_init)
        self.weight = nn.Parameter(torch.empty(out_features, in_features, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_features, device=device, dtype=dtype)) if bias else None
        self.weight_gain = lr_multiplier / in_features**0.5
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws weights of standard deviation 1 / lr_multiplier, and sets the bias to `bias_init`."""
        self.weight.normal_().div_(self.lr_multiplier)
        if self.bias is not None:
            self.bias.fill_(self.bias_init)

    def forward(self, x: Tensor) -> Tensor:
        check_floating("EqualizedLinear", "x", x)
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(f"EqualizedLinear: x has shape {list(x.shape)}, expected [..., {self.in_features}]")
        bias: Tensor | None = self.bias
        if bias is not None and self.lr_multiplier != 1:
            bias = bias * self.lr_multiplier
        y = F.linear(x, self.weight * self.weight_gain)
        return y if bias is None and self.act == "linear" else bias_act(y, bias, -1, self.act)

    def extra_repr(self) -> str:
        rest = f", lr_multiplier={self.lr_multiplier:g}" if self.lr_multiplier != 1 else ""
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}, bias={self.bias is not None}, act={self.act!r}{rest}"


class EqualizedConv2d(ExactFilter):
    """A convolution with an equalised learning rate, between two changes of resolution, and its activation.

    The size of the image is kept, times `up`, over `down`.

    Args:
        in_channels, out_channels, kernel_size: as in `torch.nn.Conv2d`; the kernel is square and odd.
        bias: whether there is one.
        act, clamp: as in `fastgan.ops.bias_act`.
        up, down: factors of the resolution.
        resample_filter: what filters the image where the resolution changes: the taps of `fastgan.ops.setup_filter`.
        device, dtype: of the weight and the bias, as in torch.nn; the filter is float32.

    Shape: [B, in_channels, H, W] -> [B, out_channels, H up / down, W up / down]

    Raises:
        ValueError: an argument, or the shape of an input, is none of these.
        TypeError: an input is not a floating tensor.
    """

    resample_filter: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        bias: bool = True,
        act: str = "linear",
        up: int = 1,
        down: int = 1,
        resample_filter: Sequence[float] = (1, 3, 3, 1),
        clamp: float | None = None,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        counts = {"in_channels": in_channels, "out_channels": out_channels, "up": up, "down": down}
        for name, value in counts.items():
            check_count("EqualizedConv2d", name, value)
        check_kernel_size("EqualizedConv2d", kernel_size)
        resolved("EqualizedConv2d", act, None, None, clamp)
        self.in_channels, self.padding = in_channels, kernel_size // 2
        self.act, self.up, self.down, self.clamp = act, up, down, clamp
        shape = out_channels, in_channels, kernel_size, kernel_size
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_channels, device=device, dtype=dtype)) if bias else None
        self.weight_gain = 1 / (in_channels * kernel_size**2) ** 0.5
        self.register_filter(filter_where(type(self).__name__, up > 1 or down > 1, resample_filter), device)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws normal weights, and sets the bias to 0 and the filter to that of the constructor."""
        nn.init.normal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        self.reset_filter()

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """`gain` scales the result, and the clamp with it (a residual block's branches are scaled by sqrt(1/2))."""
        check_shape("EqualizedConv2d", "x", x, ("batch", self.in_channels, "height", "width"))
        w = (self.weight * self.weight_gain).to(x.dtype)
        # With zeros inserted, the taps of a transposed convolution are those of the kernel as it is.
        x = conv2d_resample(x, w, self.resample_filter, self.up, self.down, self.padding, flip_weight=self.up == 1)
        return activated(x, self.bias, self.act, gain, self.clamp)

    def extra_repr(self) -> str:
        out_channels, in_channels, size, _ = self.weight.shape
        rest = "".join(f", {name}={value}" for name, value in (("up", self.up), ("down", self.down)) if value > 1)
        return f"{in_channels}, {out_channels}, {size}, bias={self.bias is not None}, act={self.act!r}{rest}"


def activated(x: Tensor, bias: Tensor | None, act: str, gain: float, clamp: float | None) -> Tensor:
    """x after bias, activation, its default gain times `gain`, and the clamp times `gain`."""
    if bias is None and act == "linear" and clamp is None:
        return x if gain == 1 else x * gain
    return bias_act(x, bias, act=act, gain=default_gain(act) * gain, clamp=None if clamp is None else clamp * gain)


def default_gain(act: str) -> float:
    """The gain that keeps the variance of normal numbers through an activation."""
    return ACTIVATIONS[act].default_gain


def filter_where(layer: str, resampled: bool, taps: Sequence[float]) -> Tensor | None:
    """The filter of a layer that changes the resolution; None where it keeps it."""
    return filter_of(layer, "resample_filter", taps) if resampled else None


def check_kernel_size(layer: str, kernel_size: int) -> None:
    if not isinstance(kernel_size, int) or kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"{layer}: kernel_size is {kernel_size!r}, expected an odd number of at least 1")
