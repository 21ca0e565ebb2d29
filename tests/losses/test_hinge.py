"""The hinge losses beside what they do at their margins."""

import torch

from fastgan.losses import hinge


def test_undecided_critic_and_perfect_critic():
    zero = torch.zeros(5, 1)
    assert hinge.critic(zero, zero) == 2
    assert hinge.critic(zero + 1, zero - 1) == 0
    assert hinge.critic(zero + 1e4, zero - 1e4) == 0


def test_no_gradient_beyond_the_margins():
    real = torch.tensor([[-3.0], [0.0], [0.99], [1.01], [5.0]], requires_grad=True)
    fake = (-real.detach()).requires_grad_()
    hinge.critic(real, fake).backward()
    inside = torch.tensor([[1.0], [1.0], [1.0], [0.0], [0.0]]) / 5
    torch.testing.assert_close(real.grad, -inside)
    torch.testing.assert_close(fake.grad, inside)


def test_the_generator_is_pulled_beyond_the_margins_too():
    fake = torch.tensor([[-30.0], [30.0]], requires_grad=True)
    hinge.generator(fake).backward()
    assert fake.grad.tolist() == [[-0.5], [-0.5]]
