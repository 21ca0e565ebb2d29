"""Decides whether a replaced layer takes a call; if not, the original's forward runs."""

from typing import Any

import torch
from torch import Tensor, nn

from fastgan._torch_private import dispatch_mode_count, dispatch_modes, functorch_is_active, in_forward_mode
from fastgan.affine.recorder import Recorder
from fastgan.penalties.lean import mode_wants_torch_functions


def recording() -> bool:
    """Whether the one-pass penalties are recording, which must see torch's own operations."""
    return dispatch_mode_count() > 0 and any(isinstance(mode, Recorder) for mode in dispatch_modes())


def plain_pass() -> bool:
    """Whether this pass is traced, transformed or watched by something that must see torch's own operations.

    torch.compile fuses and differentiates those itself; the transforms of torch.func and forward mode have no rule for
    our autograd Functions; a tracer would record our private operators; a function mode may do something else instead.
    """
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or functorch_is_active()
        or in_forward_mode()
        or recording()
        or mode_wants_torch_functions()
    )


def takes(x: Any) -> bool:
    """Whether a replacement takes x: a strided floating-point Tensor in a pass that need not see torch's operations."""
    return (
        not plain_pass()
        and type(x) in (Tensor, nn.Parameter)
        and x.is_floating_point()
        and x.layout == torch.strided
        and x.ndim > 0
    )
