"""Checks of the arguments of modulated_conv2d and styled_conv2d; messages start with the name of the function, `op`."""

from typing import Any

from torch import Tensor

from fastgan.ops._common.checks import check_floating
from fastgan.ops.upfirdn2d.filter import check_filter


def check(op: str, tensors: Any) -> None:
    """Raises for tensors, a `LayerTensors`, of wrong types, devices or shapes; `check_noise` looks at the noise's."""
    x, weight, styles, noise, strength, bias, f = tensors
    optional = {"bias": bias, "noise_strength": strength, "noise": noise}
    given = {name: tensor for name, tensor in optional.items() if tensor is not None}
    for name, tensor in {"x": x, "weight": weight, "styles": styles, **given}.items():
        check_floating(op, name, tensor)
        if tensor.device != x.device:
            raise ValueError(f"{op}: {name} is on {tensor.device}, expected {x.device} like x")
    check_filter(op, f, x.device, "resample_filter")
    if x.ndim != 4 or 0 in x.shape[1:]:
        raise ValueError(f"{op}: x has shape {list(x.shape)}, expected [batch, channels, height, width]")
    if weight.ndim != 4 or 0 in weight.shape or weight.shape[1] != x.shape[1]:
        raise ValueError(f"{op}: weight has shape {list(weight.shape)}, expected [out, {x.shape[1]}, height, width]")
    if styles.shape != x.shape[:2]:
        raise ValueError(f"{op}: styles has shape {list(styles.shape)}, expected {list(x.shape[:2])}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"{op}: bias has shape {list(bias.shape)}, expected [{weight.shape[0]}]")
    if strength is not None and strength.numel() != 1:
        raise ValueError(f"{op}: noise_strength has shape {list(strength.shape)}, expected a single element")


def check_noise(op: str, noise: Tensor | None, result: tuple[int, int, int]) -> None:
    """`result` is its batch size, height and width."""
    B, H, W = result
    if noise is not None and noise.shape not in ((H, W), (1, 1, H, W), (B, 1, H, W)):
        raise ValueError(
            f"{op}: noise has shape {list(noise.shape)}, expected {[H, W]}, {[1, 1, H, W]} or "
            f"{[B, 1, H, W]}, with the size of the result"
        )
