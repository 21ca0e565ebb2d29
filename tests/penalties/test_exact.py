"""critic_loss against the textbook double backward in float64, for every kind of critic."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fastgan
from fastgan.penalties import R1, R2, WGANGP
from tests.ops.convolution_passes import Passes
from tests.penalties.critics import CRITICS, batch, build, gradients, relative_error, textbook

LOSSES = {
    "nonsaturating": lambda r, f: F.softplus(-r).mean() + F.softplus(f).mean(),
    "hinge": lambda r, f: F.relu(1 - r).mean() + F.relu(1 + f).mean(),
    "wasserstein": lambda r, f: f.mean() - r.mean(),
    "relativistic_pairing": lambda r, f: F.softplus(f - r).mean(),
    "coupled by a function": lambda r, f: (torch.cat([r, f]).softmax(0) ** 2).sum() + r.std() * f.square().mean(),
}
PENALTIES = {
    "reals": ({"r1": 10.0}, (R1(10.0),)),
    "fakes": ({"r2": 3.0}, (R2(3.0),)),
    "both": ({"r1": 2.0, "r2": 5.0}, (R1(2.0), R2(5.0))),
    "interpolates": ({"wgan_gp": 10.0}, (WGANGP(10.0),)),
    "one-sided": ({"wgan_gp": 10.0, "target": 0.05, "one_sided": True}, (WGANGP(10.0, 0.05, one_sided=True),)),
    "all": ({"r1": 2.0, "r2": 5.0, "wgan_gp": 1.0}, (R1(2.0), R2(5.0), WGANGP(1.0))),
}


def compare(critic, real, fake, labels, loss, penalties, method, ours_loss=None):
    """Runs both from the same state; returns the result and the error of the gradients."""
    textbook_arguments, ours_penalties = PENALTIES[penalties]
    other, seed = copy.deepcopy(critic), torch.randint(2**31, ()).item()
    torch.manual_seed(seed)
    expected = textbook(other, real, fake, labels, LOSSES[loss], **textbook_arguments)
    truth = gradients(other, expected)
    torch.manual_seed(seed)
    found = fastgan.critic_loss(
        critic, real, fake, loss=ours_loss or LOSSES[loss], penalties=ours_penalties, labels=labels, method=method
    )
    assert found.method == method
    torch.testing.assert_close(torch.Tensor(found.detach()), expected.detach(), rtol=1e-12, atol=1e-12)
    error = relative_error(gradients(critic, found), truth)
    for (name, a), b in zip(critic.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=f"buffer {name}")
    return found, error


@pytest.mark.parametrize("penalties", PENALTIES)
@pytest.mark.parametrize("kind", CRITICS)
def test_one_pass_equals_the_textbook(kind, penalties):
    critic = build(CRITICS[kind])
    _, error = compare(critic, *batch(CRITICS[kind]), "nonsaturating", penalties, "one_pass")
    assert error <= 1e-10


@pytest.mark.parametrize("kind", CRITICS)
def test_double_backward_equals_the_textbook(kind):
    critic = build(CRITICS[kind])
    _, error = compare(critic, *batch(CRITICS[kind]), "nonsaturating", "all", "double_backward")
    assert error <= 1e-10


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", ["mlp", "resnet", "projection"])
def test_any_loss_of_the_two_output_vectors(kind, loss):
    critic = build(CRITICS[kind])
    for penalties in ("reals", "all"):
        _, error = compare(critic, *batch(CRITICS[kind]), loss, penalties, "one_pass")
        assert error <= 1e-10


@pytest.mark.parametrize("method", ["one_pass", "double_backward"])
def test_grouped_convolutions_by_the_kernel_of_the_cpu(method):
    """Wide enough groups for it; the other critics' are narrower."""
    critic = nn.Sequential(
        nn.Conv2d(3, 24, 1), nn.LeakyReLU(0.2), nn.Conv2d(24, 36, 3, padding=1, groups=2), nn.LeakyReLU(0.2),
        nn.Conv2d(36, 36, 3, groups=3, bias=False), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(36 * 36, 1),
    ).double()  # fmt: skip
    real, fake = torch.randn(2, 5, 3, 8, 8, dtype=torch.float64)
    with Passes() as passes:
        _, error = compare(critic, real, fake, None, "nonsaturating", "all", method)
    assert error <= 1e-10
    assert {"forward", "turned", "weight_grad"} <= set(passes.calls)
