"""FrozenPasses: the passes of one activation whose arguments are checked and resolved once.

A penalised step visits every activation three times, each time after a convolution has emptied the caches of what
Python needs: a call that checks its arguments and goes through the dispatcher again costs as much there as the kernel.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fastgan import allocation
from fastgan.backends import select
from fastgan.ops._common.kernels import kernels_for
from fastgan.ops._common.layout import by_sample, in_order_of, memory_order, sizes_in
from fastgan.ops._common.precision import compute_dtype
from fastgan.ops.frozen_bias_act import backends as operators
from fastgan.ops.frozen_bias_act import bias_act_with_mask, bias_act_with_mask_, frozen_bias_act, frozen_bias_act_grad
from fastgan.ops.frozen_bias_act.backends import FrozenArgs
from fastgan.ops.frozen_bias_act.mask import ActivationMask, from_memory
from fastgan.ops.frozen_bias_act.reference import slope_and_gain


@dataclass(frozen=True)
class BiasActArguments:
    """y = clamp(gain * act(x + b), -clamp, clamp), the bias along dimension `dim`; as for `fastgan.ops.bias_act`."""

    act: str
    alpha: float | None
    gain: float
    clamp: float | None = None
    dim: int = 1


class FrozenPasses:
    """y = bias_act(x, b) with its mask, and what the mask makes of other inputs; without autograd.

    Args:
        x: of any memory order.
        b: [channels], along dimension `dim`, or None.
        arguments: as for `fastgan.ops.bias_act_with_mask`, whose docstring lists the errors.
        in_place: y takes the memory of x.
    """

    def __init__(self, x: Tensor, b: Tensor | None, arguments: BiasActArguments, in_place: bool) -> None:
        act, clamp = arguments.act, arguments.clamp
        self.given = (arguments.dim, act, arguments.alpha, arguments.gain)
        self.clamp = clamp
        self.backend = select("frozen_bias_act", x)
        self.y: Tensor | None
        """The activation's result, until `take_result` gives it away."""
        if self.backend == "reference":
            if in_place:
                self.y, self.mask = x, bias_act_with_mask_(x, b, *self.given, clamp)
            else:
                y, self.mask = bias_act_with_mask(x, b, *self.given, clamp)
                self.y = in_order_of(y, torch.empty_like(x))
            return
        slope, gain = slope_and_gain(act, arguments.alpha, arguments.gain)
        self.dim = arguments.dim % x.ndim
        constants = (self.dim, act, slope, gain, clamp, self.backend)
        arranged = by_sample(x)
        order = memory_order(arranged)
        if in_place:
            self.y, bits = x, operators.fill_in_place(x, b, *constants)
        else:
            y, bits = operators.fill(arranged, b, *constants)
            self.y = y if arranged is x else in_order_of(y, torch.empty_like(x))  # strided as PyTorch's result would be
        self.mask = ActivationMask(bits, order, clamp is not None)
        self.args = FrozenArgs(sizes_in(order, x, self.dim), slope, gain, clamp, constant=True)
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
        kernels_for("frozen_bias_act", self.backend).frozen(u, b, s, self.mask.bits, y, self.args)
        return y

    def pull(self, dy: Tensor, s: Tensor | None, bias_grad: bool, overwrite: bool) -> tuple[Tensor, Tensor | None]:
        """`fastgan.ops.frozen_bias_act_grad(dy, mask, s, ...)`, in the memory of dy if that may be overwritten."""
        if self.backend == "reference":
            return frozen_bias_act_grad(dy, self.mask, s, *self.given, bias_grad)
        dy, ours = self._in_order(dy, overwrite)
        du = dy if ours else allocation.empty_like(dy)
        db = None
        if bias_grad:
            db = allocation.empty((dy.shape[self.dim],), like=dy, dtype=compute_dtype(dy))
        kernels_for("frozen_bias_act", self.backend).grad(dy, s, self.mask.bits, du, db, self.args)
        return du, db

    def _in_order(self, x: Tensor, overwrite: bool) -> tuple[Tensor, bool]:
        """x in the mask's memory order, and whether its memory may be overwritten."""
        order = self.mask.order
        if x.is_contiguous() if self.contiguous else x.permute(order).is_contiguous():
            return x, overwrite
        return from_memory(x.permute(order).contiguous(), x.shape, order), True
