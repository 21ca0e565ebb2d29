"""The private operators of attention: they allocate the outputs and call a backend's kernels.

They are opaque to torch.compile and know nothing of autograd: autograd.py differentiates them. All tensors have the
leading dimensions of q, but the bias, whose may be 1.
"""

from collections.abc import Sequence

from torch import Tensor

from fastgan import allocation
from fastgan.library import define
from fastgan.ops._common.kernels import kernels_for
from fastgan.ops._common.precision import compute_dtype
from fastgan.ops.attention.layout import Cotangents, Gradients, Inputs, KernelArgs, laid_out


def _forward(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float, backend: str) -> tuple[Tensor, Tensor]:
    o = allocation.empty((*q.shape[:-1], v.shape[-1]), like=q)
    softmax = allocation.empty((*q.shape[:-1], 2), like=q, dtype=compute_dtype(q))
    bias, args = laid_out(q, k, v, bias, scale)
    if _is_empty(args):
        return o.zero_(), softmax.zero_()
    x = Inputs(q.contiguous(), k.contiguous(), v.contiguous(), bias)
    kernels_for("attention", backend).forward(x, o, softmax, args)
    return o, softmax


def _grad(
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, o: Tensor, softmax: Tensor,
    scale: float, needs: Sequence[bool], backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    laid, args = laid_out(q, k, v, bias, scale)
    dq, dk, dv = _empty_like((q, k, v), needs)
    found = Gradients(dq, dk, dv, _empty_bias_gradient(laid, needs[3], args))
    if not _is_empty(args):
        x = Inputs(q.contiguous(), k.contiguous(), v.contiguous(), laid, g.contiguous(), o, softmax)
        kernels_for("attention", backend).grad(x, found, args)
    return _results(q, (found.q, found.k, found.v), found.bias, bias, args)  # type: ignore[return-value]


def _grad2(
    a: Tensor | None, b: Tensor | None, c: Tensor | None, t: Tensor | None,
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, o: Tensor, softmax: Tensor,
    scale: float, needs: Sequence[bool], backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    laid, args = laid_out(q, k, v, bias, scale)
    gg, gq, gk, gv = _empty_like((g, q, k, v), needs)
    found = Gradients(gq, gk, gv, _empty_bias_gradient(laid, needs[4], args), gg)
    if not _is_empty(args):
        a, b, c = (None if y is None else y.contiguous() for y in (a, b, c))
        t = None if t is None or laid is None else t.expand(*laid.shape[:-2], *t.shape[-2:]).contiguous()
        x = Inputs(q.contiguous(), k.contiguous(), v.contiguous(), laid, g.contiguous(), o, softmax)
        kernels_for("attention", backend).grad2(x, Cotangents(a, b, c, t), found, args)
    return _results(q, (found.g, found.q, found.k, found.v), found.bias, bias, args)  # type: ignore[return-value]


def _is_empty(args: KernelArgs) -> bool:
    """Whether there is nothing to sum: then every result is zero."""
    return 0 in (args.heads, args.N, args.M, args.e)


def _empty_like(tensors: Sequence[Tensor], needs: Sequence[bool]) -> list[Tensor | None]:
    """Memory for the gradients that are wanted."""
    pairs = zip(tensors, needs, strict=False)
    return [allocation.empty(tuple(x.shape), like=x) if need else None for x, need in pairs]


def _empty_bias_gradient(bias: Tensor | None, need: bool, args: KernelArgs) -> Tensor | None:
    """Memory for what csrc/attention.h says of it; None where it is zero, too."""
    if bias is None or not need or not args.by_column:
        return None
    shape = (args.bias_count, args.N, args.M) if args.by_row else (args.heads, args.M)
    return allocation.empty(shape, like=bias)


def _results(
    q: Tensor, found: Sequence[Tensor | None], of_bias: Tensor | None, bias: Tensor | None, args: KernelArgs
) -> tuple[Tensor, ...]:
    """The gradients in the shapes of their tensors; empty ones where they are not wanted."""
    if _is_empty(args):
        found = [None if x is None else x.zero_() for x in found]
        of_bias = None
    if of_bias is not None and bias is not None:
        of_heads = (*q.shape[:-2], 1, args.M), (*q.shape[:-2], args.N, args.M)
        whole = of_heads[0] if not args.by_row else of_heads[1] if args.bias_count == args.heads else tuple(bias.shape)
        of_bias = of_bias.view(whole).sum_to_size(bias.shape)
    elif bias is not None:
        of_bias = allocation.empty(tuple(bias.shape), like=bias).zero_()
    return *(allocation.empty((0,), like=q) if x is None else x for x in found), (
        allocation.empty((0,), like=q) if of_bias is None else of_bias
    )


def _fakes(q: Tensor, tensors: Sequence[Tensor | None], needs: Sequence[bool], bias: Tensor | None) -> tuple:
    pairs = zip(tensors, needs, strict=False)
    found = [q.new_empty(x.shape if need and x is not None else (0,)) for x, need in pairs]
    return *found, q.new_empty((0,)) if bias is None else bias.new_empty(bias.shape)


_TENSORS = "Tensor g, Tensor q, Tensor k, Tensor v, Tensor? bias, Tensor o, Tensor softmax, float scale, bool[] needs"

attention = define(
    "attention(Tensor q, Tensor k, Tensor v, Tensor? bias, float scale, str backend) -> (Tensor, Tensor)",
    _forward,
    lambda q, k, v, *rest: (
        q.new_empty((*q.shape[:-1], v.shape[-1])),
        q.new_empty((*q.shape[:-1], 2), dtype=compute_dtype(q)),
    ),
)
attention_grad = define(
    f"attention_grad({_TENSORS}, str backend) -> (Tensor, Tensor, Tensor, Tensor)",
    _grad,
    lambda g, q, k, v, bias, o, softmax, scale, needs, backend: _fakes(q, (q, k, v), needs, bias),
)
attention_grad2 = define(
    f"attention_grad2(Tensor? a, Tensor? b, Tensor? c, Tensor? t, {_TENSORS}, str backend)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _grad2,
    lambda a, b, c, t, g, q, k, v, bias, o, softmax, scale, needs, backend: _fakes(q, (g, q, k, v), needs, bias),
)
