"""Batch renormalisation: in training, too, activations are normalised as they will be in evaluation."""

from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from fastgan.ops._common.checks import check_count, check_floating, check_number
from fastgan.ops._common.precision import compute_dtype

_LEAST_EPS = torch.finfo(torch.float32).tiny
"""Lost in the rounding of any variance above 1e-31, in float32 and in float64."""


class BatchRenorm2d(nn.Module):
    """Batch norm whose output in training is corrected to that of the moving averages, as far as two limits allow.

        r = clip(s_B / s, 1 / r_max, r_max),    d = clip((m_B - m) / s, -d_max, d_max)      constants to the gradient
        y = ((x - m_B) / s_B · r + d) · weight + bias
        m <- m + momentum (m_B - m),            s <- s + momentum (s_B - s)

    m_B and s_B = sqrt(var_B + eps) are the batch's mean and (biased) standard deviation, m and s their moving averages
    before this batch. Without limits y = (x - m) / s · weight + bias, what evaluation computes, so that small batches,
    or batches of data and samples apart, do no harm; the gradient is still that of the batch's statistics. At r_max = 1
    and d_max = 0 it is batch norm. Half precision is computed in float32; derivatives of any order are autograd's.
    r and d are those of the moving averages at the call: a region of `torch.utils.checkpoint`, which computes a second
    time after they have moved, has another gradient, and moves them twice.

    Ioffe 2017, arXiv:1702.03275, algorithm 1. As there, the standard deviation is averaged and not the variance, so
    that the buffers are not batch norm's; the defaults of momentum and the schedule are those of its section 4.

    Args:
        num_features: C.
        eps: added to the variance, above 0.
        momentum: of the moving averages, from 0 to 1.
        affine: whether there are a weight and a bias, [C], at first 1 and 0.
        r_max, d_max: the final limits, at least 1 and at least 0.
        warmup: steps with the limits 1 and 0, which are batch norm's.
        r_steps, d_steps: over how many steps after them the limits grow linearly to r_max and d_max, at least 1.
        device, dtype: of the parameters and buffers, as in torch.nn.

    Buffers:
        running_mean, running_std: [C]; num_batches_tracked: the steps of the schedule.

    Shape: [B, C, H, W] -> the same, of the same dtype.

    Raises:
        TypeError: in forward, x is no floating-point tensor.
        ValueError: an argument is out of its range; in forward, x has another shape, or one value per channel in
            training.
    """

    _dims: ClassVar[tuple[int, ...]] = (4,)
    _shape: ClassVar[str] = "[batch, {}, height, width]"

    running_mean: Tensor
    running_std: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.01,
        affine: bool = True,
        r_max: float = 3.0,
        d_max: float = 5.0,
        warmup: int = 5_000,
        r_steps: int = 35_000,
        d_steps: int = 20_000,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        for name, count in (("num_features", num_features), ("r_steps", r_steps), ("d_steps", d_steps)):
            check_count(owner, name, count)
        check_number(owner, "eps", eps, above=True)
        for name, value, least in (("momentum", momentum, 0), ("r_max", r_max, 1), ("d_max", d_max, 0)):
            check_number(owner, name, value, least)
        check_number(owner, "warmup", warmup)
        if momentum > 1:
            raise ValueError(f"{owner}: momentum is {momentum!r}, expected a number from 0 to 1")
        self.num_features, self.eps, self.momentum, self.affine = num_features, eps, momentum, affine
        self.r_max, self.d_max = r_max, d_max
        self.warmup, self.r_steps, self.d_steps = warmup, r_steps, d_steps
        per_channel = partial(torch.empty, num_features, device=device, dtype=dtype)
        self.weight = nn.Parameter(per_channel()) if affine else None
        self.bias = nn.Parameter(per_channel()) if affine else None
        self.register_buffer("running_mean", per_channel())
        self.register_buffer("running_std", per_channel())
        self.register_buffer("num_batches_tracked", torch.empty((), dtype=torch.long, device=device))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Sets weight 1 and bias 0, and restarts the moving averages and the schedule."""
        if self.weight is not None and self.bias is not None:
            self.weight.fill_(1)
            self.bias.zero_()
        self.running_mean.zero_()
        self.running_std.fill_(1)
        self.num_batches_tracked.zero_()

    def limits(self) -> tuple[Tensor, Tensor]:
        """(r_max, d_max) at this step: scalars on the device, so that nothing waits for the step's number."""
        after = (self.num_batches_tracked - self.warmup).to(torch.float32)
        r = (after / self.r_steps).clamp(0, 1) * (self.r_max - 1) + 1
        d = (after / self.d_steps).clamp(0, 1) * self.d_max
        return r, d

    def forward(self, x: Tensor) -> Tensor:
        check_floating(type(self).__name__, "x", x)
        if x.ndim not in self._dims or x.shape[1] != self.num_features:
            expected = self._shape.format(self.num_features)
            raise ValueError(f"{type(self).__name__}: x has shape {list(x.shape)}, expected {expected}")
        if not self.training or x.numel() == 0:
            return self._evaluated(x)
        mean, std, r, d = self._statistics(x)
        # Constants for each channel: batch norm's own weight and bias take r and d in without another pass over x.
        weight, bias = r, d
        if self.weight is not None and self.bias is not None:
            weight, bias = self.weight * r, self.weight * d + self.bias
        y = F.batch_norm(x, None, None, weight, bias, training=True, eps=self.eps)
        self._track(mean, std)
        return y

    def _evaluated(self, x: Tensor) -> Tensor:
        kept = self.running_std.dtype
        wide = compute_dtype(self.running_std)  # the square of 256 is no number of float16
        mean, std, weight, bias = (
            None if t is None else t.to(wide) for t in (self.running_mean, self.running_std, self.weight, self.bias)
        )
        assert std is not None
        # eps is in std; torch before 2.13 refuses 0, so the least there is.
        y = F.batch_norm(x if kept == wide else x.to(wide), mean, std.square(), weight, bias, eps=_LEAST_EPS)
        return y.to(x.dtype)

    @torch.no_grad()
    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(m_B, s_B, r, d) of a batch, [C] each."""
        var, mean = torch.var_mean(x.to(compute_dtype(x)), [0, *range(2, x.ndim)], correction=0)
        std = (var + self.eps).sqrt()
        r_max, d_max = self.limits()
        r = (std / self.running_std).clamp(1 / r_max, r_max)
        d = ((mean - self.running_mean) / self.running_std).clamp(-d_max, d_max)
        return mean, std, r, d

    @torch.no_grad()
    def _track(self, mean: Tensor, std: Tensor) -> None:
        self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
        self.running_std.lerp_(std.to(self.running_std), self.momentum)
        self.num_batches_tracked.add_(1)

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"r_max={self.r_max}, d_max={self.d_max}"
        )


class BatchRenorm1d(BatchRenorm2d):
    """`BatchRenorm2d` for vectors and sequences: [B, C] or [B, C, L] -> the same."""

    _dims = (2, 3)
    _shape = "[batch, {0}] or [batch, {0}, length]"
