"""What the convolutions by minimal filtering have in common: when their kernels can be taken, and when they pay."""

import torch
from torch import Tensor

from fastgan import backends, native

Pair = tuple[int, int]  # (height, width)

DTYPES = (torch.float32, torch.float64)

LEAST_CHANNELS = 8
"""Of x and of y. Measured: with three channels of 64, most lanes of a vector are empty."""
LEAST_TILES = 32
"""Of 2x2 pixels of the smaller image, in the whole batch. Measured: fewer do not pay for the filters' transform."""


def available(x: Tensor) -> bool:
    """Whether the choice is free to fall on a kernel of the CPU for x; never where another backend is forced."""
    return backends.wanted() in ("auto", "cpu") and native.reason_missing is None and x.device.type == "cpu"


def tensors_fit(x: Tensor, w: Tensor, bias: Tensor | None, inputs: int, outputs: int) -> bool:
    """Whether the kernels take these tensors, of which x has `inputs` channels and the result `outputs`.

    They check nothing themselves.
    """
    return (
        x.dtype in DTYPES
        and all(t.dtype == x.dtype and t.device == x.device for t in (w, bias) if t is not None)
        and x.ndim == 4
        and x.shape[1] == inputs
        and w.numel() > 0
        and (bias is None or list(bias.shape) == [outputs])
    )


def large_enough(batch: int, channels: Pair, smaller_image: Pair) -> bool:
    """Whether minimal filtering is the faster one: enough channels on both sides, and enough tiles."""
    height, width = smaller_image
    return min(channels) >= LEAST_CHANNELS and batch * ((height + 1) // 2) * ((width + 1) // 2) >= LEAST_TILES
