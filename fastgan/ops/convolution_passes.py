"""The passes of a convolution, outside of autograd: PyTorch's operators, or those of conv3x3 where it pays."""

from typing import NamedTuple

import torch
from torch import Tensor

from fastgan.ops import conv3x3_backends as conv3x3


class Config(NamedTuple):
    """The arguments that are not tensors, resolved and in the order of PyTorch's operators, and who computes."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool
    output_padding: tuple[int, ...]
    groups: int
    minimal: bool = False
    """Whether it is conv3x3 that computes. A backward pass is by the same kernels as its forward pass."""

    def chosen(self, x: Tensor, w: Tensor, bias: Tensor | None) -> "Config":
        """This, with the faster of the two for these tensors; autocast has cast them."""
        plain = w.ndim == 4 and w.shape[2:] == (3, 3) and self.groups == 1 and not self.transposed
        if not plain or self.stride != (1, 1) or self.dilation != (1, 1):
            return self
        return self._replace(minimal=conv3x3.pays(x, w, bias, self.padding))  # type: ignore[arg-type]


def forward(x: Tensor, w: Tensor, bias: Tensor | None, config: Config) -> Tensor:
    """conv(x, w) + bias, in the dtype of x even under torch.autocast."""
    if config.minimal:
        return conv3x3.conv3x3(x, w, bias, config.padding, False)
    device = x.device.type
    if autocasts(device):  # a gradient taken inside an autocast keeps the dtype of its forward pass
        with torch.autocast(device, enabled=False):
            return torch.ops.aten.convolution.default(x, w, bias, *config[:6])
    return torch.ops.aten.convolution.default(x, w, bias, *config[:6])


def gradients(
    dy: Tensor, x: Tensor, w: Tensor, config: Config, needs_x: bool, needs_w: bool, needs_bias: bool
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients to x, w and the bias, of which those that are not needed are None.

    The gradient to x reads no element of x, that to w none of w: only their shapes and memory formats.
    """
    mask = [needs_x, needs_w, needs_bias]
    if not any(mask):
        return None, None, None
    if config.minimal:
        dx = conv3x3.conv3x3(dy, w, None, [2 - p for p in config.padding], True) if needs_x else None
        dw = conv3x3.conv3x3_weight_grad(x, dy, config.padding) if needs_w else None
        return dx, dw, dy.sum((0, 2, 3)) if needs_bias else None
    bias_sizes = [dy.shape[1]] if needs_bias else None
    return torch.ops.aten.convolution_backward.default(dy, x, w, bias_sizes, *config[:6], mask)


def autocasts(device: str) -> bool:
    """Whether torch.autocast is on for this type of device."""
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
