"""`record` for a network that returns one tensor."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

import fastgan.affine
from fastgan.affine import Tape


def record(network: Callable[..., Tensor], x: Tensor, *rest: Any, **options: Any) -> tuple[Tensor, Tape]:
    """The output and the tape."""
    (output,), tape = fastgan.affine.record(lambda *args: [network(*args)], x, *rest, **options)
    return output, tape
