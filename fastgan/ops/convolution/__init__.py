"""convolution: PyTorch's, differentiated to any order by the three convolutions that are closed under it.

Functions with the signatures of torch.nn.functional, whose arguments are resolved here; autograd.py differentiates them
and passes.py computes: by PyTorch, or by fastgan's own kernels where they are faster (`conv3x3`, `conv_stride2` and 1x1
convolutions, on a CPU). What this saves besides is PyTorch's own second derivative, which takes a convolution per group
apart and computes gradients that nobody asked for: a step with a gradient penalty on a grouped critic spends most of
its time there.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.ops._common.autocast import autocasts
from fastgan.ops._common.wanted import differentiated, eager
from fastgan.ops.convolution.autograd import Convolution
from fastgan.ops.convolution.passes import ConvolutionConfig

Sizes = int | Sequence[int]  # one number for all dimensions, or one for each


def convolution(
    x: Tensor,  # [batch, channels, *image] or [channels, *image]
    weight: Tensor,  # [out, channels / groups, *kernel], or transposed: [channels, out / groups, *kernel]
    bias: Tensor | None = None,  # [out]
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    transposed: bool = False,
    output_padding: Sizes = 0,
    groups: int = 1,
) -> Tensor:  # [batch, out, *image] or [out, *image]
    """A convolution in one to three dimensions, or a transposed one; values and first derivatives are PyTorch's.

    Differentiable to any order, by as many convolutions for many groups as for one, and only to those inputs whose
    gradient the pass in progress uses.

    Args:
        x: any floating dtype, contiguous or channels_last; with or without a batch dimension.
        weight: its number of dimensions says how many the convolution has.
        bias: added to every channel of the result; None adds nothing.
        stride, padding, dilation: one number, or one for each dimension; padding may be "valid" (none) or "same" (the
            size of x is kept; stride 1 only) where `transposed` is False.
        transposed: the gradient of a convolution to its input instead of a convolution.
        output_padding: of the transposed convolution, size added at one end of each dimension.
        groups: the channels are divided into so many convolutions side by side.

    Returns:
        A tensor of the dtype of x, under torch.autocast of the dtype of the autocast.

    Raises:
        ValueError: weight has not three to five dimensions.
        RuntimeError, TypeError: PyTorch's own, for shapes, dtypes or sizes that do not fit.
    """
    n = weight.ndim - 2
    if n not in (1, 2, 3):
        raise ValueError(f"convolution: weight has shape {list(weight.shape)}, expected three to five dimensions")
    if transposed:
        return _transposed(n, x, weight, bias, Given(stride, padding, dilation, output_padding, groups))
    if any(output_padding if isinstance(output_padding, Sequence) else (output_padding,)):
        raise ValueError(f"convolution: output_padding is {output_padding}, expected 0 where transposed is False")
    return _ordinary(n, x, weight, bias, Given(stride, padding, dilation, 0, groups))


def conv1d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Sizes = 1, padding: Sizes | str = 0,
    dilation: Sizes = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """`torch.nn.functional.conv1d` as a `convolution`."""
    return _ordinary(1, input, weight, bias, Given(stride, padding, dilation, 0, groups))


def conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Sizes = 1, padding: Sizes | str = 0,
    dilation: Sizes = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """`torch.nn.functional.conv2d` as a `convolution`."""
    return _ordinary(2, input, weight, bias, Given(stride, padding, dilation, 0, groups))


def conv3d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Sizes = 1, padding: Sizes | str = 0,
    dilation: Sizes = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """`torch.nn.functional.conv3d` as a `convolution`."""
    return _ordinary(3, input, weight, bias, Given(stride, padding, dilation, 0, groups))


def conv_transpose1d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Sizes = 1, padding: Sizes = 0,
    output_padding: Sizes = 0, groups: int = 1, dilation: Sizes = 1,
) -> Tensor:  # fmt: skip
    """`torch.nn.functional.conv_transpose1d` as a `convolution`."""
    return _transposed(1, input, weight, bias, Given(stride, padding, dilation, output_padding, groups))


def conv_transpose2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Sizes = 1, padding: Sizes = 0,
    output_padding: Sizes = 0, groups: int = 1, dilation: Sizes = 1,
) -> Tensor:  # fmt: skip
    """`torch.nn.functional.conv_transpose2d` as a `convolution`."""
    return _transposed(2, input, weight, bias, Given(stride, padding, dilation, output_padding, groups))


def conv_transpose3d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Sizes = 1, padding: Sizes = 0,
    output_padding: Sizes = 0, groups: int = 1, dilation: Sizes = 1,
) -> Tensor:  # fmt: skip
    """`torch.nn.functional.conv_transpose3d` as a `convolution`."""
    return _transposed(3, input, weight, bias, Given(stride, padding, dilation, output_padding, groups))


def _torch_convolution(
    input: Tensor, weight: Tensor, bias: Tensor | None, stride: Sizes, padding: Sizes, dilation: Sizes,
    transposed: bool, output_padding: Sizes, groups: int,
) -> Tensor:  # fmt: skip
    # Autocast on a CPU casts conv1d and the others, but not this one.
    function: Any = torch.convolution if input.device.type == "cpu" and autocasts("cpu") else convolution
    return function(input, weight, bias, stride, padding, dilation, transposed, output_padding, groups)


BY_TORCH_FUNCTION: dict[Callable[..., Tensor], Callable[..., Tensor]] = {
    F.conv1d: conv1d,
    F.conv2d: conv2d,
    F.conv3d: conv3d,
    F.conv_transpose1d: conv_transpose1d,
    F.conv_transpose2d: conv_transpose2d,
    F.conv_transpose3d: conv_transpose3d,
    torch.convolution: _torch_convolution,
}
"""PyTorch's function -> the one here that takes the same arguments; F.conv2d and torch.conv2d are one object."""


class Given(NamedTuple):
    """The arguments of a convolution that are not tensors, as they are given."""

    stride: Sizes
    padding: Sizes | str
    dilation: Sizes
    output_padding: Sizes
    groups: int


def _ordinary(n: int, x: Tensor, weight: Tensor, bias: Tensor | None, given: Given) -> Tensor:
    stride, padding, dilation, _, groups = given
    strides, dilations = _each(stride, n), _each(dilation, n)
    ends: tuple[int, ...] = ()  # what "same" adds after the image where it cannot add the same on both sides
    if padding == "same" and strides == (1,) * n and dilations is not None and weight.ndim == n + 2:
        totals = [d * (k - 1) for d, k in zip(dilations, weight.shape[2:], strict=True)]
        paddings: tuple[int, ...] | None = tuple(total // 2 for total in totals)
        ends = tuple(total % 2 for total in totals)
    elif isinstance(padding, str):
        paddings = (0,) * n if padding == "valid" else None
    else:
        paddings = _each(padding, n)
    if strides is not None and paddings is not None and dilations is not None:
        config = ConvolutionConfig(strides, paddings, dilations, False, (0,) * n, groups)
        if _takes(n, x, weight, bias, config):
            if any(ends):
                x = F.pad(x, [size for end in reversed(ends) for size in (0, end)])
            return _apply(n, x, weight, bias, config)
    return (F.conv1d, F.conv2d, F.conv3d)[n - 1](x, weight, bias, stride, padding, dilation, groups)


def _transposed(n: int, x: Tensor, weight: Tensor, bias: Tensor | None, given: Given) -> Tensor:
    stride, padding, dilation, output_padding, groups = given
    strides, dilations, ends = _each(stride, n), _each(dilation, n), _each(output_padding, n)
    paddings = None if isinstance(padding, str) else _each(padding, n)
    if strides is not None and paddings is not None and dilations is not None and ends is not None:
        config = ConvolutionConfig(strides, paddings, dilations, True, ends, groups)
        if _takes(n, x, weight, bias, config):
            return _apply(n, x, weight, bias, config)
    function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[n - 1]
    return function(x, weight, bias, stride, padding, output_padding, groups, dilation)  # type: ignore[arg-type]


def _each(sizes: Sizes, n: int) -> tuple[int, ...] | None:
    """One number for each of n dimensions; None for what PyTorch refuses, so that it says why."""
    if isinstance(sizes, int):
        return (sizes,) * n
    if not isinstance(sizes, Sequence) or not all(isinstance(size, int) for size in sizes):
        return None
    if len(sizes) == 1:
        return tuple(sizes) * n
    return tuple(sizes) if len(sizes) == n else None


def _takes(n: int, x: Tensor, weight: Tensor, bias: Tensor | None, config: ConvolutionConfig) -> bool:
    """Whether the Functions below are for this call; PyTorch's own does (or refuses, with its own words) any other.

    They save nothing where nothing is differentiated: there they are for what is faster than PyTorch.
    """
    return (
        weight.ndim == n + 2
        and x.ndim in (n + 1, n + 2)
        and all(t.is_floating_point() and t.layout == torch.strided for t in (x, weight))
        and (differentiated(x, weight, bias) or (eager() and config.chosen(x, weight, bias).by != "torch"))
    )


def _apply(n: int, x: Tensor, weight: Tensor, bias: Tensor | None, config: ConvolutionConfig) -> Tensor:
    device = x.device.type
    if autocasts(device):
        # Out here, where autograd sees it: the Functions save what the kernels multiply, of one dtype.
        dtype = torch.get_autocast_dtype(device)
        x, weight = _autocast(x, dtype), _autocast(weight, dtype)
        bias = None if bias is None else _autocast(bias, dtype)
    config = config.chosen(x, weight, bias)
    if x.ndim == n + 1:
        return Convolution.apply(x.unsqueeze(0), weight, bias, config).squeeze(0)
    return Convolution.apply(x, weight, bias, config)


def _autocast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """As autocast casts: float64 stays what it is."""
    return x.to(dtype) if x.is_floating_point() and x.dtype != torch.float64 else x


def minimal_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: tuple[int, int], groups: int = 1
) -> Tensor:
    """The convolution by minimal filtering, whose kernels take these arguments, whatever their size."""
    config = ConvolutionConfig((stride, stride), padding, (1, 1), False, (0, 0), groups, "minimal filtering")
    return Convolution.apply(x, weight, bias, config)
