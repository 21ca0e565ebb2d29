"""Checks of the arguments of scaled_bias_act."""

from typing import Any

from torch import Tensor

from fastgan.ops._common.checks import check_floating


def check(x: Any, scale: Any, noise: Any, strength: Any, b: Any) -> Tensor | None:
    """Raises for a wrong argument; returns the noise as [1 or B, 1, *image]."""
    named = {"x": x, "scale": scale, "noise": noise, "strength": strength, "b": b}
    for name, tensor in named.items():
        if tensor is None and name not in ("x", "scale"):
            continue
        check_floating("scaled_bias_act", name, tensor)
        if tensor.device != x.device:
            raise ValueError(f"scaled_bias_act: {name} is on {tensor.device}, expected {x.device} like x")
    if x.ndim < 3:
        raise ValueError(f"scaled_bias_act: x has shape {list(x.shape)}, expected [batch, channels, ...]")
    (B, C), image = x.shape[:2], list(x.shape[2:])
    if scale.shape != (B, C):
        raise ValueError(f"scaled_bias_act: scale has shape {list(scale.shape)}, expected {[B, C]}")
    if b is not None and b.shape != (C,):
        raise ValueError(f"scaled_bias_act: b has shape {list(b.shape)}, expected [{C}]")
    if strength is not None and strength.numel() != 1:
        raise ValueError(f"scaled_bias_act: strength has shape {list(strength.shape)}, expected a single element")
    if noise is None:
        return None
    if noise.shape == tuple(image):
        return noise[None, None]
    if noise.shape not in ((1, 1, *image), (B, 1, *image)):
        expected = f"{image}, {[1, 1, *image]} or {[B, 1, *image]}"
        raise ValueError(f"scaled_bias_act: noise has shape {list(noise.shape)}, expected {expected}")
    return noise
