"""The passes of a convolution, outside of autograd: PyTorch's operators, or fastgan's where they pay."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from fastgan.ops._common.autocast import autocasts
from fastgan.ops._common.layout import suggests_channels_last
from fastgan.ops.convolution import conv1x1_backends as conv1x1
from fastgan.ops.convolution import conv3x3_backends as conv3x3
from fastgan.ops.convolution import conv_stride2_backends as conv_stride2
from fastgan.ops.convolution import shared_filter


class ConvolutionConfig(NamedTuple):
    """The arguments that are not tensors, resolved and in the order of PyTorch's operators, and who computes."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool
    output_padding: tuple[int, ...]
    groups: int
    by: Literal["torch", "minimal filtering", "matmul", "shared filter"] = "torch"
    """Who computes. A backward pass is by the same as its forward pass."""

    def chosen(self, x: Tensor, w: Tensor, bias: Tensor | None) -> "ConvolutionConfig":
        """This, with the fastest for these tensors; autocast has cast them."""
        if _minimal_pays(x, w, bias, self):
            return self._replace(by="minimal filtering")
        if _shared_pays(x, w, bias, self):
            return self._replace(by="shared filter")
        plain = w.ndim == 4 and w.shape[2:] == (1, 1) and self.groups == 1 and not self.transposed
        if plain and self.stride == (1, 1) and self.padding == (0, 0) and conv1x1.pays(x, w, bias):
            return self._replace(by="matmul")
        return self


def _minimal_pays(x: Tensor, w: Tensor, bias: Tensor | None, config: ConvolutionConfig) -> bool:
    if w.ndim != 4 or config.dilation != (1, 1):
        return False
    padding, end = config.padding[:2], config.output_padding[:2]
    if config.stride == (1, 1) and w.shape[2:] == (3, 3) and not config.transposed:
        return conv3x3.pays(x, w, bias, padding, config.groups)  # type: ignore[arg-type]
    if config.groups == 1 and config.stride == (2, 2) and w.shape[2:] in ((3, 3), (4, 4)):
        if config.transposed:
            return conv_stride2.transposed_pays(x, w, bias, padding, end)  # type: ignore[arg-type]
        return conv_stride2.pays(x, w, bias, padding)  # type: ignore[arg-type]
    return False


def _shared_pays(x: Tensor, w: Tensor, bias: Tensor | None, config: ConvolutionConfig) -> bool:
    if w.ndim != 4 or x.ndim != 4 or config.dilation != (1, 1):
        return False
    ends = zip(config.output_padding, config.stride, strict=True)
    if any(end >= stride for end, stride in ends) or min(config.padding) < 0 or min(config.stride) < 1:
        return False  # PyTorch refuses it
    images, result = (x.shape[2], x.shape[3]), _size(x, w, config)
    sizes = (result, images) if config.transposed else (images, result)
    return shared_filter.pays(x, w, bias, config.groups, *sizes)


def _size(x: Tensor, w: Tensor, config: ConvolutionConfig) -> tuple[int, int]:
    """Height and width of the result, of undilated filters."""
    sizes = zip(x.shape[2:], w.shape[2:], config.stride, config.padding, config.output_padding, strict=True)
    if config.transposed:
        height, width = ((n - 1) * s - 2 * p + k + end for n, k, s, p, end in sizes)
    else:
        height, width = ((n + 2 * p - k) // s + 1 for n, k, s, p, _ in sizes)
    return height, width


def forward(x: Tensor, w: Tensor, bias: Tensor | None, config: ConvolutionConfig) -> Tensor:
    """conv(x, w) + bias, in the dtype of x even under torch.autocast."""
    if config.by == "minimal filtering":
        return _minimal_forward(x, w, bias, config)
    if config.by == "matmul":
        return conv1x1.conv1x1(x, w, bias, False)
    if config.by == "shared filter":
        convolve = shared_filter.convolve_transposed if config.transposed else shared_filter.convolve
        y = convolve(x, w, config.stride, config.padding, _size(x, w, config))  # type: ignore[arg-type]
        y = _in_format(y, suggests_channels_last(x) or suggests_channels_last(w))
        return y if bias is None else y.add_(bias.view(-1, 1, 1))
    device = x.device.type
    if autocasts(device):  # a gradient taken inside an autocast keeps the dtype of its forward pass
        with torch.autocast(device, enabled=False):
            return torch.ops.aten.convolution.default(x, w, bias, *config[:6])
    return torch.ops.aten.convolution.default(x, w, bias, *config[:6])


def _minimal_forward(x: Tensor, w: Tensor, bias: Tensor | None, config: ConvolutionConfig) -> Tensor:
    padding = config.padding[0]
    if config.stride == (1, 1):
        return conv3x3.conv3x3(x, w, bias, config.padding, config.groups, False)
    if not config.transposed:
        return conv_stride2.conv_stride2(x, w, bias, padding)
    size = conv_stride2.transposed_size(x, w, padding, config.output_padding)  # type: ignore[arg-type]
    return conv_stride2.conv_stride2_transposed(x, w, bias, size, padding)


def gradients(
    dy: Tensor, x: Tensor, w: Tensor, config: ConvolutionConfig, needs: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients to x, w and the bias, in that order in `needs` as well; None where none is needed.

    The gradient to x reads no element of x, that to w none of w: only their shapes and memory formats.
    """
    if not any(needs):
        return None, None, None
    needs_x, needs_w, needs_bias = needs
    if config.by == "torch":
        bias_sizes = [dy.shape[1]] if needs_bias else None
        return torch.ops.aten.convolution_backward.default(dy, x, w, bias_sizes, *config[:6], list(needs))
    if config.by == "matmul":
        dx = conv1x1.conv1x1(dy, w, None, True) if needs_x else None
        dw = conv1x1.conv1x1_weight_grad(x, dy) if needs_w else None
    else:
        last = suggests_channels_last(x) or suggests_channels_last(w)  # then so are PyTorch's gradients
        dx = _in_format(_data_grad(dy, x, w, config), last) if needs_x else None
        dw = _in_format(_minimal_weight_grad(dy, x, w, config), last) if needs_w else None
    return dx, dw, dy.sum((0, 2, 3)) if needs_bias else None


def _in_format(images: Tensor, channels_last: bool) -> Tensor:
    if suggests_channels_last(images) == channels_last:
        return images
    return images.clone(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def _data_grad(dy: Tensor, x: Tensor, w: Tensor, config: ConvolutionConfig) -> Tensor:
    if config.by == "shared filter":  # whose weight gets no gradient
        convolve = shared_filter.convolve if config.transposed else shared_filter.convolve_transposed
        return convolve(dy, w, config.stride, config.padding, tuple(x.shape[2:]))  # type: ignore[arg-type]
    padding = config.padding[0]
    if config.stride == (1, 1):
        return conv3x3.conv3x3(dy, w, None, [2 - p for p in config.padding], config.groups, True)
    if config.transposed:
        return conv_stride2.conv_stride2(dy, w, None, padding)
    return conv_stride2.conv_stride2_transposed(dy, w, None, list(x.shape[2:]), padding)


def _minimal_weight_grad(dy: Tensor, x: Tensor, w: Tensor, config: ConvolutionConfig) -> Tensor:
    if config.stride == (1, 1):
        return conv3x3.conv3x3_weight_grad(x, dy, config.padding, config.groups)
    wide, narrow = (dy, x) if config.transposed else (x, dy)
    return conv_stride2.conv_stride2_weight_grad(wide, narrow, config.padding[0], w.shape[-1])
