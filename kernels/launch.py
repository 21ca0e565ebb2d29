"""The one place from which a Triton kernel is launched; the compile-only tests replace it to see every launch."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor


def launch(
    kernel: Any,
    blocks: int,
    warps: int,
    x: Tensor,
    arguments: tuple[Any, ...],
    constants: dict[str, Any],
    stages: int | None = None,
) -> None:
    """Runs `kernel` on a one-dimensional grid, on the device and current stream of x; nothing for an empty grid.

    `arguments` are the kernel's run-time arguments in order, `constants` its tl.constexpr ones by name; `stages` is the
    depth of its pipelines of loads, None for Triton's default.
    """
    if blocks == 0:
        return
    with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
        options = {} if stages is None else {"num_stages": stages}
        kernel[(blocks,)](*arguments, **constants, num_warps=warps, **options)
