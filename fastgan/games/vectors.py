"""Arithmetic on vectors that are lists of tensors, one for each parameter."""

from collections.abc import Callable

import torch
from torch import Tensor

from fastgan._torch_private import foreach_add, foreach_mul

Vector = list[Tensor]


def dot(a: Vector, b: Vector) -> Tensor:
    """<a, b>, a scalar, summed in double."""
    parts = [torch.dot(x.flatten().double(), y.flatten().double()) for x, y in zip(a, b, strict=True)]
    return torch.stack([part.to(parts[0].device) for part in parts]).sum()


def plus(a: Vector, b: Vector, factor: float = 1.0) -> Vector:
    """a + factor b."""
    return list(foreach_add(a, b, alpha=factor))


def times(a: Vector, factors: float | list[float]) -> Vector:
    """Every tensor of a times a factor, one for all or one for each."""
    return list(foreach_mul(a, factors))


class Solution:
    """The result of `solve_normal_equations`.

    Attributes:
        x: the solution.
        iterations: how many it took.
    """

    def __init__(self, x: Vector, iterations: int, left: Vector, b: Vector) -> None:
        self.x, self.iterations = x, iterations
        self._left, self._b = left, b

    @property
    def residual(self) -> float:
        """||operator x - b|| / ||b||, computed at each access."""
        size = dot(self._b, self._b).item()
        return (dot(self._left, self._left).item() / size) ** 0.5 if size else 0.0


def solve_normal_equations(
    operator: Callable[[Vector], Vector],
    transposed: Callable[[Vector], Vector],
    b: Vector,
    tolerance: float,
    max_iterations: int,
    damping: float = 0.0,
) -> Solution:
    """The x of least ||operator x - b||^2 + damping ||x||^2, by conjugate gradients on its normal equations (CGLS).

    Right for any linear operator, symmetric or not, definite or not. From x = 0, so that of many solutions it is the
    shortest.

    Args:
        operator, transposed: a linear map of vectors, and its transpose.
        b: the right-hand side.
        tolerance: stops when the gradient of that function has this share of its size at x = 0.
        max_iterations: stops after as many, each of which applies both maps once.

    Hestenes & Stiefel 1952; Bjorck 1996, Numerical Methods for Least Squares Problems, algorithm 7.4.1.
    """
    x = [torch.zeros_like(part) for part in b]
    residual = [part.clone() for part in b]  # b - operator x
    gradient = transposed(residual)  # minus half of the function's
    direction = gradient
    squared = first = dot(gradient, gradient).item()
    taken = 0
    while taken < max_iterations and squared > tolerance**2 * first:
        image = operator(direction)
        curvature = dot(image, image).item()
        if damping:
            curvature += damping * dot(direction, direction).item()
        if curvature <= 0:  # no direction is left that the operator sees
            break
        along = squared / curvature
        x = plus(x, direction, along)
        residual = plus(residual, image, -along)
        gradient = plus(transposed(residual), x, -damping)
        squared, before = dot(gradient, gradient).item(), squared
        direction = plus(gradient, direction, squared / before)
        taken += 1
    return Solution(x, taken, residual, b)
