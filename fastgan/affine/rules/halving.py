"""The mean of each 2x2 square, by which critics halve their images, without PyTorch's operators, slow on the CPU.

The pass F gives the critic's own bits, since an activation near its kink might otherwise come to lie on the other side:
there the sums are those of slices, in PyTorch's order. The passes T and X are `upfirdn2d`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from fastgan.affine.tape import Value
from fastgan.ops.upfirdn2d import downsample2d, setup_filter, upsample2d

_BOX = setup_filter([1, 1])


def pays(x: Value) -> bool:
    """Whether this is faster and as accurate as the operation: half precision would round each sum."""
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)


def in_usual_order(x: Tensor) -> bool:
    """Whether sums of slices have the strides of PyTorch's result, on which random numbers made like it depend."""
    return x.is_contiguous() or (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last))


def pooled(x: Tensor) -> Tensor:
    """avg_pool2d(x, 2), bit for bit."""
    top, bottom = x[..., ::2, :], x[..., 1::2, :]
    return (top[..., ::2] + top[..., 1::2]).add_(bottom[..., ::2]).add_(bottom[..., 1::2]).mul_(0.25)


_FROM_EITHER_END = ((0, 1, 2, 3), (3, 2, 1, 0))
_ORDERS: dict[tuple, tuple[int, ...] | None] = {}


def weighted(x: Tensor, order: tuple[int, ...]) -> Tensor:
    """A quarter of each pixel of a 2x2 square, added up in this order of the pixels."""
    first, *others = (x[..., i // 2 :: 2, i % 2 :: 2] for i in order)
    y = first * 0.25
    for other in others:
        y.add_(other, alpha=0.25)
    return y


def resampled(x: Tensor, by_torch: Callable[[Tensor], Tensor]) -> Tensor:
    """interpolate(x, scale_factor=0.5, mode="bilinear"), bit for bit; `by_torch` computes it.

    PyTorch's sums begin at either end of the square, as its kernels for sizes, channels and threads happen to be
    written. So it is asked once for each kind of images; where its kernel has another order for the channels that do
    not fill a vector, there is none, and it does these images itself.
    """
    kind = (x.shape, x.stride(), x.dtype, torch.get_num_threads())
    if kind not in _ORDERS:
        _ORDERS[kind] = _order_of(_telling(x), by_torch)
    order = _ORDERS[kind]
    return by_torch(x) if order is None else weighted(x, order)


def _telling(x: Tensor) -> Tensor:
    """Images of the shape and strides of x in which every square's sum is another from either end."""
    images, small = torch.empty_like(x), torch.finfo(x.dtype).eps / 2
    for i, pixel in enumerate((1.0, small, small, -0.5)):  # 1 + small + small is 1, -0.5 + small + small is not -0.5
        images[..., i // 2 :: 2, i % 2 :: 2] = pixel
    return images


def _order_of(images: Tensor, by_torch: Callable[[Tensor], Tensor]) -> tuple[int, ...] | None:
    y = by_torch(images)
    return next((order for order in _FROM_EITHER_END if torch.equal(weighted(images, order), y)), None)


def halved(u: Tensor, plain: bool = False) -> Tensor:
    """The mean of each 2x2 square, to rounding; `plain`: by operations of torch alone."""
    return pooled(u) if plain else _of_images(downsample2d, u)


def transposed(delta: Tensor, plain: bool = False) -> Tensor:
    """The transpose of `halved`."""
    if not plain:
        return _of_images(lambda images, f: upsample2d(images, f, gain=0.25), delta)
    quarter = delta * 0.25
    gradient = delta.new_empty((*delta.shape[:-2], 2 * delta.shape[-2], 2 * delta.shape[-1]))
    for i in (0, 1):
        for j in (0, 1):
            gradient[..., i::2, j::2] = quarter
    return gradient


def _of_images(resample: Callable[[Tensor, Tensor], Tensor], x: Tensor) -> Tensor:
    if x.ndim == 4:
        return resample(x, _BOX)
    y = resample(x.reshape(1, -1, *x.shape[-2:]), _BOX)
    return y.view(*x.shape[:-2], *y.shape[-2:])
