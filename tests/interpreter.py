"""Triton's interpreter, mended where it rounds otherwise than a GPU.

It truncates float32 to bfloat16, which is off by up to a whole unit in the last place and always towards zero: a sum
over pixels is biased by it, and errors come out several times those of the kernel. GPUs round to nearest, ties to even.
"""

from typing import Any

import torch


def round_to_nearest() -> None:
    """Makes the interpreter round to bfloat16 as a GPU does; to be called before a kernel runs."""
    import triton.language as tl
    from triton.runtime import interpreter

    convert = interpreter._convert_float

    def rounding(data: Any, source: Any, target: Any, mode: Any) -> Any:
        if source == tl.float32 and target == tl.bfloat16:
            return torch.tensor(data).bfloat16().view(torch.uint16).numpy()
        return convert(data, source, target, mode)

    interpreter._convert_float = rounding
