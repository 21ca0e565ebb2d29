"""Shared by the convolutions by minimal filtering: argument checks, when a kernel fits and when it pays, samples."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastgan import backends, native
from fastgan.ops._common.checks import check_floating
from fastgan.registry import Sample

Pair = tuple[int, int]  # (height, width)

DTYPES = (torch.float32, torch.float64)

LEAST_CHANNELS = 8
"""Of x and of y. Measured: with three channels of 64, most lanes of a vector are empty."""
LEAST_TILES = 32
"""Of 2x2 pixels of the smaller image, in the whole batch. Measured: fewer do not pay for the filters' transform."""


def check(op: str, x: Any, weight: Any, bias: Any, *sides: int, groups: int = 1) -> None:
    """Raises TypeError or ValueError unless x are images and weight square filters of one of these widths."""
    for name, tensor in (("x", x), ("weight", weight), ("bias", bias)):
        if name != "bias" or tensor is not None:
            check_floating(op, name, tensor)
    if x.ndim != 4:
        raise ValueError(f"{op}: x has shape {list(x.shape)}, expected [batch, channels, height, width]")
    if x.shape[1] % groups != 0:
        raise ValueError(f"{op}: groups is {groups}, expected a divisor of the {x.shape[1]} channels of x")
    shapes = [[x.shape[1] // groups, side, side] for side in sides]
    if weight.ndim != 4 or list(weight.shape[1:]) not in shapes or weight.shape[0] % groups != 0:
        expected = " or ".join(f"[out, {', '.join(map(str, shape))}]" for shape in shapes)
        if groups > 1:
            expected += f" with out a multiple of groups, {groups}"
        raise ValueError(f"{op}: weight has shape {list(weight.shape)}, expected {expected}")
    if bias is not None and list(bias.shape) != [weight.shape[0]]:
        raise ValueError(f"{op}: bias has shape {list(bias.shape)}, expected [{weight.shape[0]}]")


def check_size(op: str, x: Tensor, padding: int, output: Pair) -> None:
    """Raises ValueError if the result would have no pixel."""
    if min(output) < 1:
        raise ValueError(f"{op}: x has shape {list(x.shape)}, smaller than the filters with padding {padding}")


def available(x: Tensor) -> bool:
    """Whether a kernel of the CPU may run on x: the extension is loaded, and no other backend is forced."""
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


def kernels_fit(x: Tensor, w: Tensor, bias: Tensor | None, inputs: int, outputs: int) -> bool:
    """Whether minimal filtering takes these tensors: `tensors_fit`, on a processor that fuses products and sums.

    Where every product is rounded before it is added, its worst error exceeded twice PyTorch's in 1 of 24 draws.
    """
    return native.fused_multiply_add and tensors_fit(x, w, bias, inputs, outputs)


def large_enough(batch: int, channels: Pair, smaller_image: Pair) -> bool:
    """Whether minimal filtering is the faster one: enough channels on both sides, and enough tiles."""
    return min(channels) >= LEAST_CHANNELS and tiles(batch, smaller_image) >= LEAST_TILES


def tiles(batch: int, image: Pair) -> int:
    """Of 2x2 pixels in the whole batch."""
    height, width = image
    return batch * ((height + 1) // 2) * ((width + 1) // 2)


def sample_of(device: torch.device, dtype: torch.dtype, generator: torch.Generator) -> Callable[..., Sample]:
    """What makes the samples of an op: (B, inputs, outputs, H, W, taps, label, bias, **kwargs) -> Sample, `inputs` and
    `outputs` those of a group where `groups` is among kwargs.

    Pixels and weights are positive: no sum cancels, so that a relative error can be asked for.
    """

    def sample(
        B: int, inputs: int, outputs: int, H: int, W: int, taps: int, label: str, bias: bool = False, **kwargs: Any
    ) -> Sample:
        def draw(*size: int) -> Tensor:
            return (torch.rand(size, generator=generator, dtype=torch.float64) + 0.1).to(device, dtype)

        groups = kwargs.get("groups", 1)
        outputs *= groups
        tensors = draw(B, groups * inputs, H, W), draw(outputs, inputs, taps, taps), draw(outputs) if bias else None
        return Sample(tensors, kwargs, label)

    return sample


def channels_last(x: Tensor) -> Tensor:
    """An image or filters in that memory order, other tensors as they are."""
    return x.to(memory_format=torch.channels_last) if x.ndim == 4 else x
