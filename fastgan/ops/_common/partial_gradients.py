"""The gradients of a function inside of the backward pass of a `torch.autograd.Function`, differentiable in turn."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def partial_gradients(
    function: Callable[..., Tensor], tensors: Sequence[Tensor | None], needs: Sequence[bool], cotangent: Tensor
) -> list[Tensor | None]:
    """The gradient of `function(*tensors)` to each tensor that is there and whose `needs` is true; None for the rest.

    With a graph where the pass that calls it makes one (create_graph=True). A gradient that is zero may be None.

    Args:
        function: of torch operations, or of others that are differentiable to the order that is wanted.
        tensors: its arguments, as the Function saved them.
        needs: as long as `tensors` at least, such as `ctx.needs_input_grad`.
        cotangent: like the function's result.
    """
    create_graph = torch.is_grad_enabled()
    needed = [i for i, tensor in enumerate(tensors) if tensor is not None and needs[i]]
    with torch.enable_grad():
        # Views are the variables of this differentiation: one tensor may depend on another, and the partial derivatives
        # must not follow that path.
        views: list[Any] = [tensor if tensor is None else tensor.view_as(tensor) for tensor in tensors]
        wanted = [views[i] for i in needed]
        found = torch.autograd.grad(function(*views), wanted, cotangent, create_graph=create_graph, allow_unused=True)
    result: list[Tensor | None] = [None] * len(tensors)
    for i, gradient in zip(needed, found, strict=True):
        result[i] = gradient
    return result


def higher_derivatives(
    ctx: Any, reference: Callable[[Tensor], Tensor], cotangents: tuple[Tensor | None, Tensor | None]
) -> list[Tensor | None]:
    """The backward pass of a Function (v, g, x) -> (cotangent of g, cotangent of x), a kernel's second derivative.

    By differentiating `reference` three times, to any order from there on.

    Args:
        ctx: of that Function, which saved v, g and x: v is the cotangent of dx, and dx the gradient of <g, y(x)>.
        reference: x -> y in torch operations.
        cotangents: of the two results; None for zero.

    Returns:
        The gradients to v, g and x; None where none is needed.
    """

    def paired(v: Tensor, g: Tensor, x: Tensor) -> Tensor:
        g, x = (t if t.requires_grad else t.detach().requires_grad_() for t in (g, x))
        (dx,) = torch.autograd.grad(reference(x), x, g, create_graph=True)
        results = torch.autograd.grad(dx, (g, x), v, create_graph=True)
        return sum((r * c).sum() for r, c in zip(results, cotangents, strict=True) if c is not None)  # type: ignore[return-value]

    (v, g, x) = ctx.saved_tensors
    if all(c is None for c in cotangents):
        return [None, None, None]
    return partial_gradients(paired, (v, g, x), ctx.needs_input_grad, v.new_ones(()))
