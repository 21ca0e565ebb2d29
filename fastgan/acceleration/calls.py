"""Which calls the replacements take; every other one is the original's own."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as torch_module
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from fastgan.affine.recorder import Recorder


def recording() -> bool:
    """Whether the one-pass penalties are recording: they know torch's own operations, and replay those in kernels."""
    return torch._C._len_torch_dispatch_stack() > 0 and any(
        isinstance(mode, Recorder) for mode in _get_current_dispatch_mode_stack()
    )


def plain_pass() -> bool:
    """Whether something looks at this pass that is to see torch's own operations.

    torch.compile fuses and differentiates those itself; the transforms of torch.func and forward mode have no rule for
    our autograd Functions; a tracer would record our private operators.
    """
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
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


def is_quiet(module: nn.Module) -> bool:
    """Whether calling the module is no more than calling its class's forward: no hook, no forward of the instance."""
    return not (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or module._compiled_call_impl is not None
        or "forward" in module.__dict__
        or "_conv_forward" in module.__dict__
    )


def hooks_on_every_module() -> bool:
    return bool(
        torch_module._global_forward_hooks
        or torch_module._global_forward_pre_hooks
        or torch_module._global_backward_hooks
        or torch_module._global_backward_pre_hooks
    )
