"""`method="random_probe"`: R1 and R2 estimated along one random direction per sample, as several code bases of 2025 do.

A baseline to compare with, never chosen by itself. Its mean is the penalty as the deviation goes to 0; its variance is
that of a chi-square with one degree of freedom, and so is its gradient's: docs/gradient-penalties.md has it measured.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan.penalties.checks import one_tensor
from fastgan.penalties.penalty import Penalty

DEVIATION = 0.01
"""The standard deviation sigma of the displacement (Lin et al. 2025, arXiv:2501.08316, section 3.4, for images)."""


def probe(critic: Callable[..., Tensor], x: Tensor, rest: Sequence[Any], output: Tensor) -> Tensor:
    """(D(x_i + sigma z_i) - D(x_i)) / sigma for z_i ~ N(0, I), [B, 1], differentiable.

    gamma/2 times the mean of its squares is the code bases' lambda mean (D(x) - D(x + sigma z))^2 with
    lambda = gamma / (2 sigma^2): its expectation is R1 or R2, where D is linear over the distance sigma.

    Args:
        critic: the network.
        x, rest: its arguments.
        output: D(x), [B, ...]; of several numbers per sample their sum is probed.
    """
    displaced = one_tensor(critic(x + DEVIATION * torch.randn_like(x), *rest))
    return (displaced - output).reshape(len(x), -1).sum(1, keepdim=True) / DEVIATION


def check_probed(owner: str, penalties: Mapping[str, Penalty]) -> None:
    """Raises ValueError unless every penalty is a square of the gradient's norm at samples (R1, R2)."""
    for name, penalty in penalties.items():
        if penalty.rho.target is not None:
            raise ValueError(
                f"{owner}: method is 'random_probe' and penalties has {name}, expected R1 and R2 alone: a random "
                "direction estimates the square of a gradient's norm, not the norm"
            )
