"""The least-squares losses at their minima."""

import pytest
import torch

from fastgan.losses import least_squares


def test_perfect_critic_and_best_undecided_one():
    ones, zeros = torch.ones(5, 1), torch.zeros(5, 1)
    assert least_squares.critic(ones, zeros) == 0
    assert least_squares.critic(ones / 2, ones / 2) == 0.25
    assert least_squares.generator(ones) == 0
    assert least_squares.generator(ones / 2) == 0.125


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_best_critic_is_the_share_of_data(share):
    """Where a share of what the critic sees is data, the logit that minimises the loss is that share."""
    logit = torch.tensor(share, dtype=torch.float64, requires_grad=True)
    (up,) = torch.autograd.grad(least_squares.critic(logit, torch.zeros(1)), logit)
    (down,) = torch.autograd.grad(least_squares.critic(torch.ones(1), logit), logit)
    assert (share * up + (1 - share) * down).item() == pytest.approx(0, abs=1e-15)


def test_samples_on_the_right_side_are_still_pulled_to_the_data():
    fake = torch.tensor([[-4.0], [1.0], [6.0]], requires_grad=True)
    least_squares.generator(fake).backward()
    torch.testing.assert_close(fake.grad, torch.tensor([[-5.0], [0.0], [5.0]]) / 3)
