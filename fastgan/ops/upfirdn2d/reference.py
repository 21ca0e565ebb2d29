"""upfirdn2d in plain PyTorch."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from fastgan.ops.upfirdn2d.filter import Padding, parse_padding, parse_rate


def upfirdn2d_reference(
    x: Tensor,
    f: Tensor | None = None,
    up: int | Sequence[int] = 1,
    down: int | Sequence[int] = 1,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1,
) -> Tensor:
    """`upfirdn2d` in plain PyTorch, step by step: the oracle, the fallback and what the benchmarks call eager."""
    up, down = parse_rate("upfirdn2d", "up", up), parse_rate("upfirdn2d", "down", down)
    x0, x1, y0, y1 = parse_padding("upfirdn2d", padding)
    B, C, H, W = x.shape
    if up != (1, 1):
        x = F.pad(x.reshape(B, C, H, 1, W, 1), (0, up[0] - 1, 0, 0, 0, up[1] - 1)).reshape(B, C, H * up[1], W * up[0])
    x = F.pad(x, [max(side, 0) for side in (x0, x1, y0, y1)])
    x = x[:, :, max(-y0, 0) : x.shape[2] - max(-y1, 0), max(-x0, 0) : x.shape[3] - max(-x1, 0)]
    if C == 1:
        # Strides of one channel may look like channels_last, for which torch 2.13's oneDNN convolves wrongly (18 x 7
        # pixels by 6 x 6 taps with stride (1, 2) on AVX-512): these are the strides of a contiguous image.
        x = x.contiguous().reshape(x.shape)
    if f is None:
        f = x.new_ones(1, 1)
    f = f.to(x.dtype) if flip_filter else f.to(x.dtype).flip(list(range(f.ndim)))
    if f.ndim == 2:
        weight = (f * gain).expand(C, 1, *f.shape)
        return F.conv2d(x, weight, stride=(down[1], down[0]), groups=C)
    x = F.conv2d(x, f[None, :].expand(C, 1, 1, -1), stride=(1, down[0]), groups=C)
    return F.conv2d(x, (f * gain)[:, None].expand(C, 1, -1, 1), stride=(down[1], 1), groups=C)
