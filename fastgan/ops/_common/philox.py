"""Philox4x32-10 in plain PyTorch: the numbers that the kernels draw, on any device.

Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3. The generator is counter-based: the i-th number is a
function of the seed and of i alone.
"""

import torch
from torch import Tensor

from fastgan import _torch_private

_WORD = 0xFFFFFFFF
# The largest scale with which 2^31 - 1, rounded to float32, stays below 1.
_SCALE = 4.6566127342e-10


def uniform(seed: Tensor, count: int) -> Tensor:  # [1] int64 -> [count] float32
    """The first `count` numbers of U[0, 1) for a seed, bit for bit those of Triton's `tl.rand(seed, i)`."""
    if torch.compiler.is_compiling():  # inductor would multiply these integer expressions out for minutes
        _torch_private.break_graph()
    i = torch.arange(count, device=seed.device)
    word = _philox(seed.view(1), i)
    # The word as a signed integer x, of which tl.rand takes x or -x - 1, whichever is not negative.
    magnitude = torch.where(word > _WORD >> 1, _WORD - word, word)
    return magnitude.to(torch.float32) * _SCALE


def _philox(seed: Tensor, i: Tensor) -> Tensor:
    """The first word of the block for counter (i, 0, 0, 0), i of 64 bits; words of 32 bits, held in int64."""
    c0, c1 = i & _WORD, i >> 32 & _WORD
    c2, c3 = torch.zeros_like(i), torch.zeros_like(i)
    k0, k1 = seed & _WORD, seed >> 32 & _WORD
    for _ in range(10):
        a_high, a_low = _multiply(0xD2511F53, c0)
        b_high, b_low = _multiply(0xCD9E8D57, c2)
        c0, c1, c2, c3 = b_high ^ c1 ^ k0, b_low, a_high ^ c3 ^ k1, a_low
        k0, k1 = k0 + 0x9E3779B9 & _WORD, k1 + 0xBB67AE85 & _WORD
    return c0


def _multiply(a: int, b: Tensor) -> tuple[Tensor, Tensor]:
    """High and low word of the 64-bit product of two words, in two halves: int64 would overflow."""
    high, low = a * (b >> 16), a * (b & 0xFFFF)
    return high + (low >> 16) >> 16, ((high & 0xFFFF) << 16) + low & _WORD
