"""The private operators of gradient_norm_penalty: allocate the outputs and call a backend's kernels.

They are opaque to torch.compile and know nothing of autograd; fastgan/ops/gradient_norm_penalty.py differentiates them.
"""

import math
from typing import Any

import torch
from torch import Tensor

from fastgan import allocation
from fastgan.library import define
from fastgan.native import DTYPE_CODES, address, extension
from fastgan.ops._common.layout import dense, like
from fastgan.ops._common.precision import compute_dtype

_PENALTY = "float weight, float? target, bool one_sided"


def _forward(g: Tensor, weight: float, target: float | None, one_sided: bool, backend: str) -> tuple[Tensor, Tensor]:
    g = dense(g)  # whichever dense order that is, the samples are outermost
    penalty, norm = _per_sample(g), _per_sample(g)
    _kernels(backend).forward(g, None, None, None, penalty, norm, weight, target, one_sided, 1.0, 1.0)
    return penalty, norm


def _grad(
    p: Tensor, g: Tensor, norm: Tensor, weight: float, target: float | None, one_sided: bool, backend: str
) -> Tensor:
    g = dense(g)
    dg = allocation.empty_like(g)
    _kernels(backend).grad(p.contiguous(), g, norm, dg, weight, target, one_sided)
    return dg


def _penalised_input(
    g: Tensor, x: Tensor, s: Tensor | None,
    weight: float, target: float | None, one_sided: bool, scale: float, grad_scale: float, backend: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    x = dense(x)
    g = like(g, x)
    s = None if s is None else s.to(compute_dtype(x)).contiguous()
    u, penalty, norm = allocation.empty_like(x), _per_sample(x), _per_sample(x)
    _kernels(backend).forward(g, x, s, u, penalty, norm, weight, target, one_sided, scale, grad_scale)
    return u, penalty, norm


def _per_sample(g: Tensor) -> Tensor:
    return allocation.empty((g.shape[0],), like=g, dtype=compute_dtype(g))


def _fake_per_sample(g: Tensor) -> Tensor:
    return g.new_empty((g.shape[0],), dtype=compute_dtype(g))


gradient_norm_penalty = define(
    f"gradient_norm_penalty(Tensor g, {_PENALTY}, str backend) -> (Tensor, Tensor)",
    _forward,
    lambda g, *rest: (_fake_per_sample(g), _fake_per_sample(g)),
)
gradient_norm_penalty_grad = define(
    f"gradient_norm_penalty_grad(Tensor p, Tensor g, Tensor norm, {_PENALTY}, str backend) -> Tensor",
    _grad,
    lambda p, g, *rest: torch.empty_like(dense(g)),
)
penalised_input = define(
    f"penalised_input(Tensor g, Tensor x, Tensor? s, {_PENALTY}, float scale, float grad_scale, str backend)"
    " -> (Tensor, Tensor, Tensor)",
    _penalised_input,
    lambda g, x, *rest: (torch.empty_like(dense(x)), _fake_per_sample(x), _fake_per_sample(x)),
)


def _kernels(backend: str) -> Any:
    """The functions forward and grad of a backend; they fill outputs that are allocated here."""
    if backend == "cpu":
        return _Cpu
    from fastgan.kernels import gradient_norm_penalty as triton_kernels  # imports triton: only when it is used

    return triton_kernels


class _Cpu:
    """Calls csrc/gradient_norm_penalty.cpp with addresses."""

    @staticmethod
    def forward(
        g: Tensor, x: Tensor | None, s: Tensor | None, u: Tensor | None, penalty: Tensor, norm: Tensor, *config: Any
    ) -> None:
        E, n, T, B = g.dtype, g.numel(), compute_dtype(g), g.shape[0]
        extension().gradient_norm_penalty(
            address(g, E, n), address(x, E, n), address(s, T, B), address(u, E, n), address(penalty, T, B),
            address(norm, T, B), _Cpu.arguments(g, *config),
        )  # fmt: skip

    @staticmethod
    def grad(
        p: Tensor, g: Tensor, norm: Tensor, dg: Tensor, weight: float, target: float | None, one_sided: bool
    ) -> None:
        E, n, T, B = g.dtype, g.numel(), compute_dtype(g), g.shape[0]
        args = _Cpu.arguments(g, weight, target, one_sided, 1.0, 1.0)
        extension().gradient_norm_penalty_grad(
            address(p, T, B), address(g, E, n), address(norm, T, B), address(dg, E, n), args
        )

    @staticmethod
    def arguments(
        g: Tensor, weight: float, target: float | None, one_sided: bool, scale: float, grad_scale: float
    ) -> Any:
        sizes = g.shape[0], math.prod(g.shape[1:])
        goal = math.nan if target is None else target  # no comparison with NaN holds: no target
        scales, dtype = (scale, grad_scale), DTYPE_CODES[g.dtype]
        return extension().NormPenaltyArgs(*sizes, weight, goal, one_sided, *scales, dtype, torch.get_num_threads())
