"""attention on the CPU: calls csrc/attention.cpp with addresses."""

from typing import Any

import torch
from torch import Tensor

from fastgan.native import DTYPE_CODES, address, extension
from fastgan.ops._common.precision import compute_dtype
from fastgan.ops.attention.layout import Cotangents, Gradients, Inputs, KernelArgs


def forward(x: Inputs, o: Tensor, softmax: Tensor, args: KernelArgs) -> None:
    """Fills the output, and what the derivatives compute the softmax from."""
    queries = args.heads * args.N
    results = address(o, o.dtype, queries * args.e), address(softmax, compute_dtype(o), 2 * queries)
    extension().attention(_inputs(x, args), *results, _args_in_c(x, args))


def grad(x: Inputs, found: Gradients, args: KernelArgs) -> None:
    """Fills the gradients that are wanted."""
    extension().attention_grad(_inputs(x, args), _gradients(x, found, args), _args_in_c(x, args))


def grad2(x: Inputs, y: Cotangents, found: Gradients, args: KernelArgs) -> None:
    """Fills the cotangents of g and of the inputs for those of the gradients."""
    dtype, bias_dtype, sizes = x.q.dtype, compute_dtype(x.q), _Sizes(args)
    cotangents = extension().AttentionCotangents(
        address(y.q, dtype, sizes.q), address(y.k, dtype, sizes.k), address(y.v, dtype, sizes.v),
        address(y.bias, bias_dtype, sizes.bias),
    )  # fmt: skip
    extension().attention_grad2(_inputs(x, args), cotangents, _gradients(x, found, args), _args_in_c(x, args))


class _Sizes:
    """Numbers of elements."""

    def __init__(self, args: KernelArgs) -> None:
        self.q = args.heads * args.N * args.d
        self.k = args.heads * args.M * args.d
        self.v = args.heads * args.M * args.e
        self.o = args.heads * args.N * args.e
        self.softmax = 2 * args.heads * args.N
        self.bias = args.bias_count * (args.N if args.by_row else 1) * (args.M if args.by_column else 1)
        self.bias_gradient = args.bias_count * args.N * args.M if args.by_row else args.heads * args.M


def _sizes(args: KernelArgs) -> _Sizes:
    return _Sizes(args)


def _inputs(x: Inputs, args: KernelArgs) -> Any:
    dtype, wide, sizes = x.q.dtype, compute_dtype(x.q), _Sizes(args)
    return extension().AttentionInputs(
        address(x.q, dtype, sizes.q), address(x.k, dtype, sizes.k), address(x.v, dtype, sizes.v),
        address(x.bias, wide, sizes.bias), address(x.g, dtype, sizes.o), address(x.o, dtype, sizes.o),
        address(x.softmax, wide, sizes.softmax),
    )  # fmt: skip


def _gradients(x: Inputs, found: Gradients, args: KernelArgs) -> Any:
    dtype, wide, sizes = x.q.dtype, compute_dtype(x.q), _Sizes(args)
    return extension().AttentionGradients(
        address(found.q, dtype, sizes.q), address(found.k, dtype, sizes.k), address(found.v, dtype, sizes.v),
        address(found.bias, wide, sizes.bias_gradient), address(found.g, dtype, sizes.o),
    )  # fmt: skip


def _args_in_c(x: Inputs, args: KernelArgs) -> Any:
    """The struct AttentionArgs of csrc/attention.h."""
    return extension().AttentionArgs(*args, DTYPE_CODES[x.q.dtype], torch.get_num_threads())
