"""Characteristic kernels of the squared distance d^2 = ||x - y||^2, elementwise: 0 -> their largest value.

Each is a sum over several widths, because critic features have no scale that is known beforehand: a single width is
flat where its points are much nearer or farther than it. All are smooth in d^2, also at 0, and finite for any d^2 >= 0.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Kernel = Callable[[Tensor], Tensor]
"""Type of a kernel: squared distances -> values, elementwise."""

ALPHAS = (0.2, 0.5, 1.0, 2.0, 5.0)
WIDTHS = (1.0, 2.0, 4.0, 8.0, 16.0)


def rational_quadratic(squared_distances: Tensor, alphas: Sequence[float] = ALPHAS) -> Tensor:
    """sum over a of (1 + d^2 / (2 a))^-a: Gaussians of all widths, those of precision t weighed by a gamma density.

    Its tails are powers of the distance, so that far points still attract each other.

    Bińkowski et al. 2018, arXiv:1801.01401, section 4 and its five exponents.
    """
    total = torch.zeros_like(squared_distances)
    for alpha in alphas:
        total = total + (1 + squared_distances / (2 * alpha)).pow(-alpha)
    return total


def gaussian(squared_distances: Tensor, widths: Sequence[float] = WIDTHS) -> Tensor:
    """sum over w of exp(-d^2 / (2 w^2)).

    Li et al. 2017, arXiv:1705.08584, section 5 and its five widths.
    """
    total = torch.zeros_like(squared_distances)
    for width in widths:
        total = total + torch.exp(squared_distances / (-2 * width * width))
    return total


KERNELS: dict[str, Kernel] = {"rational_quadratic": rational_quadratic, "gaussian": gaussian}
