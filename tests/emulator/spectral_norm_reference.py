"""Formulas of csrc/spectral_norm.cu in float64, with a bound on the rounding of each value."""

from dataclasses import dataclass

import torch


@dataclass
class Case:
    """One weight and all that the functions take with it, in the type under test."""

    weight: torch.Tensor
    u: torch.Tensor
    v: torch.Tensor
    g: torch.Tensor
    d: torch.Tensor

    @property
    def shape(self):
        return tuple(self.weight.shape)

    def matrix_of(self, x):
        """[A, h, B] as float64 [h, A B]."""
        A, h, B = self.shape
        return x.double().permute(1, 0, 2).reshape(h, A * B)

    def shaped(self, x):
        A, h, B = self.shape
        return x.reshape(h, A, B).permute(1, 0, 2)


def draw(shapes, dtype, seed, scale=1.0):
    random = torch.Generator().manual_seed(seed)
    cases = []
    for A, h, B in shapes:
        weight, g, d = (torch.randn(A, h, B, generator=random, dtype=torch.float64) for _ in range(3))
        u, v = (torch.randn(n, generator=random, dtype=torch.float64) for n in (h, A * B))
        # Close to a singular vector, as in training: otherwise u' M v may cancel to nothing.
        m = weight.permute(1, 0, 2).reshape(h, A * B)
        v = m.t() @ (m @ (v / v.norm()))
        u = m @ v + 0.1 * u
        values = (weight * scale, u / u.norm(), v / v.norm(), g, d)
        cases.append(Case(*(x.to(dtype) for x in values)))
    return cases


def wide(dtype):
    return torch.float64 if dtype == torch.float64 else torch.float32


def sigma_of(case):
    return case.u.double() @ case.matrix_of(case.weight) @ case.v.double()


def unit_roundoff(dtype):
    return torch.finfo(wide(dtype)).eps / 2


class Iterate:
    """u, v and sigma in float64, each with a bound on what rounding in the type of the arithmetic does to it.

    To first order: a sum of n products errs by (n' + 1) u times the sum of their sizes, where n' is the number of
    additions that a term meets; x / max(|x|, eps) by (|dx_i| + |x_i / max| |dx|) / max; norms are sums in double.
    """

    def __init__(self, case, iterations, eps, v_first):
        self.case, self.eps = case, eps
        self.m = case.matrix_of(case.weight)
        self.u, self.v = case.u.double(), case.v.double()
        self.du, self.dv = torch.zeros_like(self.u), torch.zeros_like(self.v)
        dtype = case.weight.dtype
        self.roundoff = unit_roundoff(dtype)
        h, w = self.m.shape
        # A thread's share of a row, 128 at most; the warp's, the block's, the chunks' sums, two scalings. A slab's
        # rows, the slabs one after another.
        self.along_row, self.along_column = min(w, 128) + 20, h + 12
        if dtype == torch.float64:  # where the reference rounds as coarsely, in whatever order
            self.along_row, self.along_column = self.along_row + w, self.along_column + h
        last = None
        if iterations == 0:
            y, dy = self.multiply_v()
            self.sigma = self.u @ y
            self.dsigma = self.u.abs() @ dy + self.roundoff * self.sigma.abs()
        for _ in range(iterations):
            if v_first:
                self.v, self.dv, _ = self.normalise(*self.multiply_u())
                self.u, self.du, last = self.normalise(*self.multiply_v())
            else:
                self.u, self.du, _ = self.normalise(*self.multiply_v())
                self.v, self.dv, last = self.normalise(*self.multiply_u())
        if last is not None:
            norm, dnorm = last
            self.sigma = norm * norm / max(norm, eps)
            self.dsigma = 2 * dnorm + self.roundoff * self.sigma

    def multiply_v(self):
        dy = self.m.abs() @ (self.dv + self.along_row * self.roundoff * self.v.abs())
        return self.m @ self.v, dy

    def multiply_u(self):
        dt = (self.du + self.along_column * self.roundoff * self.u.abs()) @ self.m.abs()
        return self.u @ self.m, dt

    def normalise(self, x, dx):
        norm, dnorm = x.norm(), dx.norm()
        largest = norm.clamp(min=self.eps)
        unit = x / largest
        return unit, (dx + unit.abs() * dnorm) / largest + 3 * self.roundoff * unit.abs(), (norm, dnorm)

    def expected(self):
        """{name: (value, bound)}"""
        out = self.m / self.sigma
        dout = out.abs() * (self.dsigma / self.sigma.abs() + 2 * self.roundoff)
        return {
            "u_out": (self.u, self.du),
            "v_out": (self.v, self.dv),
            "sigma": (self.sigma, self.dsigma),
            "out": (self.case.shaped(out), self.case.shaped(dout)),
        }


def reference_gradients(case, gs):
    """{name: (value, bound)}: automatic differentiation of M / (u' M v) and u' M v, u and v constant.

    The functions round sigma, at most three factors and terms of an element, and its division: 10 roundings cover
    them. Their sums, and the reference's, are made in double, where N additions round N times.
    """
    u, v = case.u.double(), case.v.double()
    m, g, d = (case.matrix_of(x).clone().requires_grad_() for x in (case.weight, case.g, case.d))
    gs = gs.double().clone().requires_grad_()
    sigma = u @ m @ v
    (dm,) = torch.autograd.grad((g * (m / sigma)).sum() + gs * sigma, m, create_graph=True)
    dgs, dg, dm2 = torch.autograd.grad(dm, (gs, g, m), d)
    with torch.no_grad():
        s, uv = sigma.abs(), torch.outer(u, v).abs()
        G, D, M = g.abs(), d.abs(), m.abs()
        roundoff, double = 10 * unit_roundoff(case.weight.dtype), 4 * (m.numel() + 8) * 2.0**-53
        a, gm, dgsum = (d * torch.outer(u, v)).sum().abs(), (g * m).sum().abs(), (d * g).sum().abs()
        a_sizes, gm_sizes, dg_sizes = (D * uv).sum(), (G * M).sum(), (D * G).sum()
        a_bound, gm_bound, dg_bound = (
            roundoff * x + double * y for x, y in ((a, a_sizes), (gm, gm_sizes), (dgsum, dg_sizes))
        )
        return {
            "dM": (dm.detach(), roundoff * (G / s + gs.abs() * uv) + gm_bound / s**2 * uv),
            "dG": (dg, roundoff * D / s + a_bound / s**2 * M),
            "dM2": (
                dm2,
                a_bound / s**2 * G + (2 * (a_bound * gm + a * gm_bound) / s**3 + dg_bound / s**2) * uv,
            ),
            "dgs": (dgs, a_bound),
        }
