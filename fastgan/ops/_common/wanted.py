"""The gradients that a backward pass will use; autograd's engine knows, but does not tell a Python `Function`.

`ctx.needs_input_grad` says which inputs required a gradient in the forward pass. `torch.autograd.grad(y, [x])` through
a layer wants only that of x, PyTorch's own layers compute only that, but a Function is told that the weight needs its
gradient too. In a gradient penalty that is half of the work of its first pass, and thrown away.
"""

from typing import Any

import torch
from torch import Tensor

from fastgan import _torch_private


def wanted(ctx: Any, i: int) -> bool:
    """Whether this backward pass uses the gradient of argument `i`; True where that cannot be found out.

    To be called in the `backward` of a `torch.autograd.Function` whose arguments are tensors up to `i`: autograd counts
    tensors, so that a None among them would shift the numbers.
    """
    if not ctx.needs_input_grad[i]:
        return False
    if torch.compiler.is_compiling():  # a trace has no engine to ask
        return True
    try:
        return _torch_private.backward_pass_runs(ctx.next_functions[i][0])
    except Exception:
        # RuntimeError for a leaf whose gradient autograd.grad returns: wanted. Anything else: the private function is
        # not there, or no engine is running, and a gradient too many is never wrong.
        return True


def differentiated(*tensors: Tensor | None) -> bool:
    """Whether the eager engine will differentiate a function of these tensors.

    Elsewhere an op is PyTorch's own: without a gradient there is nothing to save; torch.compile differentiates what it
    traces once and knows what it needs; the transforms of torch.func and forward mode have no rule for our Functions.
    """
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors) and eager()


def eager() -> bool:
    """Whether PyTorch runs operators one by one, with no transform of torch.func and no forward mode around them."""
    return (
        not torch.compiler.is_compiling()
        and not _torch_private.functorch_is_active()
        and not _torch_private.in_forward_mode()
    )
