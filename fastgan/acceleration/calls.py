"""Which calls the replacements take; every other one is the original's own."""

from typing import Any

import torch
from torch import Tensor, nn

from fastgan._torch_private import dispatch_mode_count, dispatch_modes, functorch_is_active, in_forward_mode
from fastgan.affine.recorder import Recorder


def recording() -> bool:
    """Whether the one-pass penalties are recording: they know torch's own operations, and replay those in kernels."""
    return dispatch_mode_count() > 0 and any(isinstance(mode, Recorder) for mode in dispatch_modes())


def plain_pass() -> bool:
    """Whether something looks at this pass that is to see torch's own operations.

    torch.compile fuses and differentiates those itself; the transforms of torch.func and forward mode have no rule for
    our autograd Functions; a tracer would record our private operators.
    """
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or functorch_is_active()
        or in_forward_mode()
        or recording()
    )


def takes(x: Any) -> bool:
    """Whether a replacement may compute with x: not with integers, sparse tensors, proxies and other subclasses."""
    return (
        not plain_pass()
        and type(x) in (Tensor, nn.Parameter)
        and x.is_floating_point()
        and x.layout == torch.strided
        and x.ndim > 0
    )
