"""Helpers that the tests of critic_loss share."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.penalties import R1, R2
from tests.penalties.critics import relative_error

METHODS = ("one_pass", "double_backward")
ALL = (R1(2.0), R2(5.0))


def plain(real: Tensor, fake: Tensor) -> Tensor:
    """The non-saturating loss."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def assert_same(found: dict[str, Tensor], truth: dict[str, Tensor], limit: float = 1e-10) -> None:
    assert relative_error(found, truth) <= limit


def norms_by_hand(critic, x: Tensor, *rest) -> tuple[Tensor, Tensor]:
    """The outputs and the norms of their gradients, differentiable."""
    x = x.detach().requires_grad_()
    output = critic(x, *rest)
    (g,) = torch.autograd.grad(output.sum(), x, create_graph=True)
    return output, g.flatten(1).norm(2, dim=1)
