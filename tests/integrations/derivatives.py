"""Values with first and second derivatives, as one list of tensors to compare."""

import torch


def derivatives(function, tensors):
    """`graph_derivatives` of a function of these tensors."""
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    return graph_derivatives(function(*leaves), leaves)


def graph_derivatives(y, leaves):
    """The result, the gradients of a curved function of it, and the gradients of a function of those."""
    cotangent = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    first = torch.autograd.grad(y.sin(), leaves, cotangent, create_graph=True, allow_unused=True)
    used = [g for g in first if g is not None]
    second = torch.autograd.grad(sum(g.sin().sum() for g in used), leaves, allow_unused=True)
    return [y, *first, *second]


def assert_same(ours, theirs, **tolerance):
    """None, an undefined gradient, is a zero one."""
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        if a is not None or b is not None:
            a, b = (torch.zeros_like(other) if t is None else t for t, other in ((a, b), (b, a)))
            torch.testing.assert_close(a, b, **(tolerance or {"rtol": 1e-9, "atol": 1e-9}))
