"""Registers the private `torch.library` operators that the autograd functions call.

An operator here is opaque to torch.compile and knows nothing of autograd: the typed `torch.autograd.Function`s of
fastgan/ops/ wrap it. Measured per forward call, `Library.define` + `impl` costs less than half of `custom_op`.
"""

from collections.abc import Callable
from typing import Any

import torch

_LIBRARY = torch.library.Library("fastgan", "DEF")


def define(schema: str, implementation: Callable[..., Any], fake: Callable[..., Any]) -> Any:
    """Registers `fastgan::<name>` on CPU and CUDA and returns its default overload.

    `schema` is the operator's signature, `fake` computes the metadata (shape, dtype, strides) of its outputs.
    """
    name = schema.split("(", 1)[0]
    _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag, torch.Tag.needs_fixed_stride_order))
    for key in ("CPU", "CUDA"):
        _LIBRARY.impl(name, implementation, key)
    torch.library.register_fake(f"fastgan::{name}", fake, lib=_LIBRARY)
    return getattr(torch.ops.fastgan, name).default
