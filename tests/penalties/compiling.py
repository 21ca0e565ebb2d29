"""Helpers that the tests of compile= share."""

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fastgan
from fastgan.penalties import R1, R2
from fastgan.penalties.result import CriticLoss
from tests.penalties.critics import gradients, relative_error, textbook

BOTH = (R1(2.0), R2(5.0))


def loss(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def step(critic: Callable[..., Tensor], real: Tensor, fake: Tensor, labels: Any = None, **options: Any) -> CriticLoss:
    """One compiled step."""
    given = {"loss": loss, "penalties": BOTH, "method": "one_pass", "compile": "eager"} | options
    return fastgan.critic_loss(critic, real, fake, labels=labels, **given)


def truth_of(
    critic: nn.Module, real: Tensor, fake: Tensor, labels: Any = None, **penalties: float
) -> dict[str, Tensor]:
    """The textbook's gradients of the step; the critic's buffers move on."""
    return gradients(critic, textbook(critic, real, fake, labels, loss, **(penalties or {"r1": 2.0, "r2": 5.0})))


def check(critic: nn.Module, real: Tensor, fake: Tensor, labels: Any = None, **options: Any) -> CriticLoss:
    """One compiled step equals the textbook's from the same state and leaves the same state; returns the result."""
    expected = options.pop("expected", {})
    other = copy.deepcopy(critic)
    seed = torch.randint(2**31, ()).item()
    torch.manual_seed(seed)
    truth = truth_of(other, real, fake, labels, **expected)
    torch.manual_seed(seed)
    found = step(critic, real, fake, labels, **options)
    assert relative_error(gradients(critic, found), truth) <= 1e-10
    for (name, a), b in zip(critic.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=f"buffer {name}")
    return found
