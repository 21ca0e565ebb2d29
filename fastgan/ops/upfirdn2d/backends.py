"""The private operator of upfirdn2d: it allocates the output and calls a backend's kernel.

It is opaque to torch.compile and knows nothing of autograd: autograd.py differentiates it.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from fastgan import allocation
from fastgan.library import define
from fastgan.native import CPU, DTYPE_CODES, address, extension
from fastgan.ops._common.layout import dense, empty_image
from fastgan.ops._common.precision import compute_dtype
from fastgan.ops.upfirdn2d.filter import Pair, filter_size


class Upfirdn2dConfig(NamedTuple):
    """The arguments that are not tensors, of one pass from x to y; the size of y is given apart."""

    up: Pair
    down: Pair
    origin: Pair
    """Where the first pixel of x comes to lie in the padded image: the padding at the left and at the top."""
    flip: bool
    gain: float
    backend: str

    def transposed(self, f: Tensor | None) -> "Upfirdn2dConfig":
        """The same for the gradient: from the cotangent of y to that of x."""
        (width, height), (x, y) = filter_size(f), self.origin
        return self._replace(up=self.down, down=self.up, origin=(width - 1 - x, height - 1 - y), flip=not self.flip)


def _resample(
    x: Tensor, f: Tensor | None, up: Pair, down: Pair, origin: Pair, flip: bool, gain: float, backend: str, size: Pair
) -> Tensor:
    x = dense(x)
    f = x.new_ones((1, 1), dtype=torch.float32) if f is None else f.contiguous()
    y = empty_image(x.shape[1], size[1], size[0], order=x)
    width, height = filter_size(f)
    args = extension().Upfirdn2dArgs(
        tuple(x.shape), tuple(y.shape[2:]), (height, width), f.ndim == 1, tuple(up), tuple(down), tuple(origin),
        flip, gain, not x.is_contiguous(), DTYPE_CODES[x.dtype],
    )  # fmt: skip
    device = CPU if backend == "cpu" else x.device
    addresses = (
        address(x, x.dtype, x.numel(), device),
        address(f, torch.float32, width if f.ndim == 1 else height * width, device),
        address(y, x.dtype, x.shape[0] * x.shape[1] * size[0] * size[1], device),
    )
    if backend == "cpu":
        extension().upfirdn2d(*addresses, args, torch.get_num_threads())
        return y
    elements = extension().upfirdn2d_scratch(args)
    scratch = allocation.empty((elements,), like=x, dtype=compute_dtype(x)) if elements else None
    room = address(scratch, compute_dtype(x), elements, device)
    with torch.cuda.device(x.device):
        stream = torch.cuda.current_stream().cuda_stream
        extension().upfirdn2d_cuda(*addresses, args, room, stream)
    return y


upfirdn2d = define(
    "upfirdn2d(Tensor x, Tensor? f, int[2] up, int[2] down, int[2] origin, bool flip, float gain, str backend, "
    "SymInt[2] size) -> Tensor",
    _resample,
    lambda x, f, up, down, origin, flip, gain, backend, size: empty_image(x.shape[1], size[1], size[0], order=dense(x)),
)
