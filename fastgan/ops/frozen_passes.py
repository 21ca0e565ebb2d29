"""FrozenPasses: the passes of one activation whose arguments are checked and resolved once.

A penalised step visits every activation three times, each time after a convolution has emptied the caches of what
Python needs: a call that checks its arguments and goes through the dispatcher again costs as much there as the kernel.
"""

import torch
from torch import Tensor

from fastgan import allocation, backends
from fastgan.ops import frozen_bias_act_backends as kernels
from fastgan.ops._common.layout import by_sample, like, memory_order, sizes_in
from fastgan.ops.activation_mask import ActivationMask, from_memory
from fastgan.ops.frozen_bias_act import (
    bias_act_with_mask,
    bias_act_with_mask_,
    frozen_bias_act,
    frozen_bias_act_grad,
)
from fastgan.ops.frozen_bias_act_reference import slope_and_gain


class FrozenPasses:
    """y = bias_act(x, b) with its mask, and what the mask makes of other inputs; without autograd.

    Args:
        x: of any memory order.
        b: [channels], along dimension `dim`, or None.
        dim, act, alpha, gain, clamp: as for `fastgan.ops.bias_act_with_mask`, which says what is raised.
        in_place: y takes the memory of x.
    """

    def __init__(
        self, x: Tensor, b: Tensor | None, dim: int, act: str, alpha: float | None, gain: float | None,
        clamp: float | None, in_place: bool,
    ) -> None:  # fmt: skip
        self.given = (dim, act, alpha, gain)
        self.clamp, self.clamped = clamp, clamp is not None
        self.backend = backends.select("frozen_bias_act", x)
        self.y: Tensor | None
        """The activation's result, until `take_result` gives it away."""
        if self.backend == "reference":
            if in_place:
                self.y, self.mask = x, bias_act_with_mask_(x, b, *self.given, clamp)
            else:
                y, self.mask = bias_act_with_mask(x, b, *self.given, clamp)
                self.y = like(y, torch.empty_like(x))
            return
        self.slope, self.gain = slope_and_gain(act, alpha, gain)
        self.dim = dim % x.ndim
        constants = (self.dim, act, self.slope, self.gain, clamp, self.backend)
        arranged = by_sample(x)
        order = memory_order(arranged)
        if in_place:
            self.y, bits = x, kernels.fill_in_place(x, b, *constants)
        else:
            y, bits = kernels.fill(arranged, b, *constants)
            self.y = y if arranged is x else like(y, torch.empty_like(x))  # strided as PyTorch's result would be
        self.mask = ActivationMask(bits, order, self.clamped)
        self.sizes = sizes_in(order, x, self.dim)
        self.contiguous = order == tuple(range(x.ndim))

    def take_result(self) -> Tensor:
        """y, of which nothing is kept."""
        y, self.y = self.y, None
        assert y is not None
        return y

    def push(self, u: Tensor, b: Tensor | None, s: Tensor | None, overwrite: bool) -> Tensor:
        """`fastgan.ops.frozen_bias_act(u, b, s, mask, ...)`, in the memory of u if that may be overwritten."""
        if self.backend == "reference":
            return frozen_bias_act(u, b, s, self.mask, *self.given, self.clamp)
        u, ours = self._in_order(u, overwrite)
        y = u if ours else allocation.empty_like(u)
        kernels.kernels_of(self.backend).frozen(
            u, b, s, self.mask.bits, y, self.sizes, self.slope, self.gain, self.clamp, True
        )
        return y

    def pull(self, dy: Tensor, s: Tensor | None, bias_grad: bool, overwrite: bool) -> tuple[Tensor, Tensor | None]:
        """`fastgan.ops.frozen_bias_act_grad(dy, mask, s, ...)`, in the memory of dy if that may be overwritten."""
        if self.backend == "reference":
            return frozen_bias_act_grad(dy, self.mask, s, *self.given, bias_grad)
        dy, ours = self._in_order(dy, overwrite)
        du = dy if ours else allocation.empty_like(dy)
        db = None
        if bias_grad:
            db = allocation.empty((dy.shape[self.dim],), like=dy, dtype=kernels.compute_dtype(dy.dtype))
        kernels.kernels_of(self.backend).grad(
            dy, s, self.mask.bits, du, db, self.sizes, self.slope, self.gain, self.clamped
        )
        return du, db

    def _in_order(self, x: Tensor, overwrite: bool) -> tuple[Tensor, bool]:
        """x in the mask's memory order, and whether its memory may be overwritten."""
        order = self.mask.order
        if x.is_contiguous() if self.contiguous else x.permute(order).is_contiguous():
            return x, overwrite
        return from_memory(x.permute(order).contiguous(), x.shape, order), True
