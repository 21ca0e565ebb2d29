"""What every op asks of its tensors."""

from typing import Any

from torch import Tensor


def check_floating(op: str, name: str, value: Any, expected: str = "a floating-point tensor") -> None:
    """Raises for an argument that is not a floating-point tensor.

    Raises:
        TypeError: it is not; the message names the op, the argument and what came.
    """
    if not isinstance(value, Tensor) or not value.is_floating_point():
        what = str(value.dtype) if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"{op}: {name} is {what}, expected {expected}")
