"""The derivatives of spectral_norm: one call estimates all singular values, each weight has a graph of its own.

PyTorch's norms are independent of each other in a graph: outputs of a network that share no layer are differentiated in
one backward pass each, and a weight that a loss does not reach gets None. One function of all weights would do neither.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastgan import _torch_private
from fastgan.backends import select, wanted
from fastgan.ops._common.precision import compute_dtype
from fastgan.ops.spectral_norm import backends as operators
from fastgan.ops.spectral_norm.reference import Settings, grad2_reference, power_iteration, sigma_of


class Estimate(NamedTuple):
    """What was found for one weight, without a graph.

    Attributes:
        u, v: [rows], [columns], after the iterations.
        sigma, normalised: [] and like the weight, where a kernel has computed them and `scale` asked for the latter.
        dim: the dimension of the rows.
        backend: what differentiates it.
    """

    u: Tensor
    v: Tensor
    sigma: Tensor | None
    normalised: Tensor | None
    dim: int
    backend: str


@torch.no_grad()
def estimate(
    weights: Sequence[Tensor], vectors: Sequence[tuple[Tensor, Tensor]], dims: Sequence[int],
    settings: Settings,
) -> list[Estimate]:  # fmt: skip
    """u, v, sigma and the normalised form of each weight, from one call; the given vectors stay as they are."""
    plain = wanted() == "auto" and transformed()
    backend = "reference" if plain else select("spectral_norm", weights[0])
    iterations, eps, v_first, scale = settings
    if backend == "reference":
        found = []
        for weight, pair, dim in zip(weights, vectors, dims, strict=True):
            u, v = power_iteration(weight, *pair, dim, settings)
            u, v = (u, v) if iterations else (u.clone(), v.clone())  # those that were given may change
            found.append(Estimate(u, v, None, None, dim, backend))
        return found
    given = [pair[0] for pair in vectors], [pair[1] for pair in vectors]
    normalised, sigmas, *flat = operators.forward(
        list(weights), *given, dims, iterations, float(eps), v_first, scale, backend
    )
    each_u, each_v = (
        [x] if len(parts) == 1 else x.split_with_sizes([part.shape[0] for part in parts])
        for x, parts in zip(flat, given, strict=True)
    )
    results: Sequence[Tensor | None] = normalised if scale else [None] * len(weights)
    columns = zip(each_u, each_v, sigmas.unbind(), results, dims, strict=True)
    return [Estimate(*column, backend) for column in columns]


def divided(weight: Tensor, found: Estimate) -> tuple[Any, Tensor]:
    """The weight over its sigma, and sigma, as differentiable functions of the weight.

    What was found is used up: the normalised weight is returned itself, as part of the graph. It is None where the
    estimate has none.
    """
    sigma = found.sigma
    if sigma is None or transformed():
        sigma = sigma_of(weight, found.u, found.v, found.dim)
        return weight / sigma, sigma.to(compute_dtype(weight))
    if weight.requires_grad and torch.is_grad_enabled() and not _inference():
        return Divided.apply(found, weight)
    return found.normalised, sigma


def transformed() -> bool:
    """Whether torch.func, forward mode or a tracer is at work, which have no rule for our functions."""
    return _torch_private.functorch_is_active() or _torch_private.in_forward_mode() or torch.jit.is_tracing()


def _inference() -> bool:
    """Whether no operation makes a graph, even where gradients are enabled again."""
    return not torch.compiler.is_compiling() and torch.is_inference_mode_enabled()


class Divided(torch.autograd.Function):
    """(estimate, weight) -> the normalised weight and sigma. u and v are constants."""

    @staticmethod
    def forward(ctx: Any, found: Estimate, weight: Tensor) -> tuple[Tensor | None, Tensor]:
        assert found.sigma is not None
        ctx.how = found.dim, found.backend
        ctx.save_for_backward(weight, found.u, found.v, found.sigma)
        ctx.set_materialize_grads(False)
        return found.normalised, found.sigma.detach()

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, gs: Tensor | None) -> tuple[None, Tensor | None]:
        if g is None and gs is None:
            return None, None
        saved = ctx.saved_tensors
        # Grad mode is on in a backward pass only with create_graph=True; otherwise nobody will differentiate dW.
        if torch.is_grad_enabled():
            return None, DividedGrad.apply(ctx.how, g, gs, *saved)
        return None, operators.grad(g, gs, *saved, *ctx.how)


class DividedGrad(torch.autograd.Function):
    """dW = G / sigma + (gs - <G, W> / sigma^2) u v', where sigma = u' W v is a function of W."""

    @staticmethod
    def forward(
        ctx: Any, how: tuple[int, str], g: Tensor | None, gs: Tensor | None, weight: Tensor, u: Tensor, v: Tensor,
        sigma: Tensor,
    ) -> Tensor:  # fmt: skip
        ctx.how = how
        ctx.save_for_backward(g, weight, u, v, sigma)
        ctx.set_materialize_grads(False)
        ctx.has_gs = gs is not None
        return operators.grad(g, gs, weight, u, v, sigma, *how)

    @staticmethod
    def backward(ctx: Any, d: Tensor | None) -> tuple[Tensor | None, ...]:
        if d is None:
            return (None,) * 7
        g, weight, u, v, sigma = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody differentiates once more
            dg, dw, dgs = grad2_reference(d, g, weight, u, v, ctx.how[0])
            dgs = dgs.to(sigma.dtype)
        else:
            dg, dw, dgs = operators.grad2(d, g, weight, u, v, sigma, *ctx.how)
        return None, None if g is None else dg, dgs if ctx.has_gs else None, dw, None, None, None
