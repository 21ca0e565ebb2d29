"""modulated_conv2d in plain PyTorch."""

from typing import Any

from torch import Tensor

from fastgan.backends import backend
from fastgan.ops.modulated_conv2d import styled_conv2d


def styled_conv2d_reference(*tensors: Tensor | None, **kwargs: Any) -> Tensor:
    """`styled_conv2d` with every step in plain PyTorch: the oracle, the fallback and what the benchmarks call eager."""
    with backend("reference"):
        return styled_conv2d(*tensors, **kwargs)  # type: ignore[arg-type]
