"""compile=True: the four passes as two graphs, equal to the textbook, and never stale.

Most tests stop short of inductor ("aot_eager" runs the same graphs through PyTorch's operators): what is tested is the
graphs.
"""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fastgan
from fastgan.penalties import R1, R2, WGANGP
from tests.penalties.critics import CRITICS, batch, build, gradients, relative_error, textbook


def loss(real, fake):
    return F.softplus(-real).mean() + F.softplus(fake).mean()


BOTH = (R1(2.0), R2(5.0))


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def check(critic, real, fake, labels=None, compile="aot_eager", penalties=BOTH, **expected):
    """One compiled step equals the textbook's from the same state; returns the result."""
    other = copy.deepcopy(critic)
    seed = torch.randint(2**31, ()).item()
    torch.manual_seed(seed)
    truth = gradients(other, textbook(other, real, fake, labels, loss, **(expected or {"r1": 2.0, "r2": 5.0})))
    torch.manual_seed(seed)
    found = fastgan.critic_loss(
        critic, real, fake, loss=loss, penalties=penalties, labels=labels, method="one_pass", compile=compile
    )
    assert relative_error(gradients(critic, found), truth) <= 1e-10
    for (name, a), b in zip(critic.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=f"buffer {name}")
    return found


RANDOM = {"noise and dropout"}  # compiled random numbers are others


@pytest.mark.parametrize("kind", sorted(CRITICS.keys() - RANDOM))
def test_compiled_equals_the_textbook(kind):
    critic = build(CRITICS[kind])
    for _ in range(2):  # buffers move on
        check(critic, *batch(CRITICS[kind]))


def test_samples_without_a_penalty_and_points_elsewhere():
    critic = build(CRITICS["resnet"])
    samples = batch(CRITICS["resnet"])
    check(critic, *samples, penalties=(R1(3.0),), r1=3.0)
    check(critic, *samples, penalties=(WGANGP(10.0),), wgan_gp=10.0)


def test_a_penalty_alone():
    critic = build(CRITICS["dcgan"])
    real, _, _ = batch(CRITICS["dcgan"])
    eager = gradients(critic, fastgan.gradient_penalty(critic, real, R1(4.0), method="one_pass"))
    compiled = gradients(
        critic, fastgan.gradient_penalty(critic, real, R1(4.0), method="one_pass", compile="aot_eager")
    )
    assert relative_error(compiled, eager) <= 1e-12


@pytest.mark.slow
def test_inductor():
    critic = build(CRITICS["resnet"])
    check(critic, *batch(CRITICS["resnet"]), compile=True)


class Flagged(nn.Module):
    """Its code depends on an attribute, on a global of this file, on a hook and on which parameters are frozen."""

    def __init__(self):
        super().__init__()
        self.stem, self.head, self.scale = nn.Conv2d(3, 4, 3), nn.Linear(4, 1), 1.0

    def forward(self, x):
        h = F.leaky_relu(self.stem(x), SLOPE) * self.scale
        return self.head(h.mean((2, 3)))


SLOPE = 0.2


def test_whatever_the_code_depends_on_compiles_anew():
    critic = Flagged().double()
    real, fake = torch.randn(2, 4, 3, 6, 6, dtype=torch.float64)
    check(critic, real, fake)
    critic.scale = 2.0
    check(critic, real, fake)
    global SLOPE
    previous, SLOPE = SLOPE, 0.7
    try:
        check(critic, real, fake)
    finally:
        SLOPE = previous
    critic.stem.bias.requires_grad_(False)
    check(critic, real, fake)
    critic.head = nn.Linear(4, 1).double()
    check(critic, real, fake)
    check(critic, real[:3], fake[:3])
    critic.stem.weight = nn.Parameter(torch.randn_like(critic.stem.weight))
    check(critic, real, fake)


def test_ineligible_critics_are_refused_or_run_eagerly():
    critic = nn.Sequential(nn.Flatten(), nn.Linear(27, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    real, fake = torch.randn(2, 4, 3, 3, 3, dtype=torch.float64)
    with pytest.raises(fastgan.NotAffineError, match="tanh"):
        fastgan.critic_loss(critic, real, fake, method="one_pass", compile="aot_eager")
    found = fastgan.critic_loss(critic, real, fake, compile="aot_eager")
    assert found.method == "double_backward"
    assert "tanh" in found.reason
