"""Results of critic_loss and gradient_penalty: totals and parts, penalty by penalty."""

import pytest
import torch
from torch import Tensor, nn

import fastgan
from fastgan.ops import interpolate
from fastgan.penalties import DRAGAN, R1, R2, WGANGP, CriticLoss, Rho
from tests.penalties.common import assert_same, norms_by_hand, plain
from tests.penalties.critics import CRITICS, batch, build, gradients, textbook

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_parts_are_what_they_are_called(critic, samples, method):
    real, fake = samples
    total = fastgan.critic_loss(critic, real, fake, penalties=(R1(2.0), R2(5.0), WGANGP(3.0)), method=method)
    assert total.method == method
    assert total.reason is None
    d_real, norm_real = norms_by_hand(critic, real)
    d_fake, norm_fake = norms_by_hand(critic, fake)
    expected = {"r1": norm_real.square().mean(), "r2": 2.5 * norm_fake.square().mean()}
    assert list(total.penalties) == list(total.gradient_norms) == ["r1", "r2", "wgan-gp"]
    for name, norm in (("r1", norm_real), ("r2", norm_fake)):
        torch.testing.assert_close(total.gradient_norms[name], norm.detach())
        torch.testing.assert_close(total.penalties[name], expected[name].detach())
    excess = total.gradient_norms["wgan-gp"] - 1
    torch.testing.assert_close(total.penalties["wgan-gp"], 3 * excess.square().mean())
    torch.testing.assert_close(total.real_logits, d_real.detach())
    torch.testing.assert_close(total.fake_logits, d_fake.detach())
    torch.testing.assert_close(total.loss, plain(d_real, d_fake).detach())
    torch.testing.assert_close(total.detach() * 1, total.loss + sum(total.penalties.values()))
    for part in (
        total.loss,
        total.real_logits,
        total.fake_logits,
        *total.penalties.values(),
        *total.gradient_norms.values(),
    ):
        assert not part.requires_grad
        assert type(part) is Tensor


def test_what_is_computed_from_it_is_plain(critic, samples, method):
    total = fastgan.critic_loss(critic, *samples, method=method)
    assert type(total) is CriticLoss
    for result in (
        total / 2,
        total + 1,
        total.detach(),
        -total,
        torch.stack([total, total]),
        total.float(),
        2 * total + total,
    ):
        assert type(result) is Tensor
    assert isinstance(total.item(), float)
    assert "CriticLoss" in repr(total)


def test_it_is_printed_like_any_scalar(critic, samples, method):
    total = fastgan.critic_loss(critic, *samples, method=method)
    assert f"{total:.3f}" == f"{total.item():.3f}"


def test_without_penalties_it_is_the_loss(samples, method):
    critic = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(144, 1)).double()
    truth = gradients(critic, textbook(critic, *samples, None, plain))
    total = fastgan.critic_loss(critic, *samples, penalties=(), method=method)
    assert total.penalties == {}
    assert total.gradient_norms == {}
    assert_same(gradients(critic, total), truth)


def test_two_penalties_of_a_kind(critic, samples, method):
    real, fake = samples
    truth = gradients(critic, textbook(critic, real, fake, None, plain, r1=3.5))
    total = fastgan.critic_loss(critic, real, fake, penalties=(R1(1.0), R1(2.5)), method=method)
    assert list(total.penalties) == ["r1", "r1_2"]
    torch.testing.assert_close(total.penalties["r1_2"], 2.5 * total.penalties["r1"])
    assert_same(gradients(critic, total), truth)


def test_a_zero_centred_and_a_targeted_penalty_at_the_same_points(critic, samples, method):
    """Both tangents add up."""

    class Around:
        name, at = "around", "real"
        rho = Rho(4.0, 0.3)

    real, fake = samples
    norm = norms_by_hand(critic, real)[1]
    truth = gradients(critic, textbook(critic, real, fake, None, plain, r1=2) + 4 * (norm - 0.3).square().mean())
    total = fastgan.critic_loss(critic, real, fake, penalties=(R1(2.0), Around()), method=method)
    assert_same(gradients(critic, total), truth)


def test_two_sets_of_interpolates(critic, samples, method):
    real, fake = samples
    torch.manual_seed(5)
    expected = textbook(critic, real, fake, None, plain, wgan_gp=2)
    expected = expected + textbook(critic, real, fake, None, lambda r, f: 0 * r.sum(), wgan_gp=3, target=0.1)
    truth = gradients(critic, expected)
    torch.manual_seed(5)
    total = fastgan.critic_loss(critic, real, fake, penalties=(WGANGP(2.0), WGANGP(3.0, 0.1)), method=method)
    assert_same(gradients(critic, total), truth)


@pytest.mark.parametrize("one_sided", [False, True])
def test_dragan(critic, samples, method, one_sided):
    real, fake = samples
    torch.manual_seed(7)
    near = real + 0.5 * real.std(correction=0) * torch.randn_like(real)
    excess = norms_by_hand(critic, near)[1] - 0.2
    excess = excess.clamp(min=0) if one_sided else excess
    truth = gradients(critic, plain(critic(real), critic(fake)) + 10 * excess.square().mean())
    torch.manual_seed(7)
    penalty = DRAGAN(10.0, 0.2, 0.5, one_sided)
    total = fastgan.critic_loss(critic, real, fake, penalties=(penalty,), method=method)
    assert_same(gradients(critic, total), truth)


RHO = {
    "r1": (R1(3.0), lambda n: 1.5 * n.square()),
    "r2": (R2(3.0), lambda n: 1.5 * n.square()),
    "wgan-gp": (WGANGP(10.0), lambda n: 10 * (n - 1).square()),
    "one-sided": (WGANGP(10.0, 1e-3, one_sided=True), lambda n: 10 * (n - 1e-3).clamp(min=0).square()),
    "dragan": (DRAGAN(10.0), lambda n: 10 * (n - 1).square()),
}


@pytest.mark.parametrize("name", RHO)
@pytest.mark.parametrize("kind", ["dcgan", "projection"])
def test_a_penalty_alone(kind, name, method, seed):
    torch.manual_seed(seed)
    critic = build(CRITICS[kind])
    x, _, labels = batch(CRITICS[kind], 4)
    penalty, rho = RHO[name]
    rest = () if labels is None else (labels,)
    output, norm = norms_by_hand(critic, x, *rest)
    truth = gradients(critic, rho(norm).mean())
    total = fastgan.gradient_penalty(critic, x, penalty, labels=labels, method=method)
    torch.testing.assert_close(total.detach() * 1, rho(norm).mean().detach())
    torch.testing.assert_close(total.gradient_norms[penalty.name], norm.detach())
    torch.testing.assert_close(total.real_logits, output.detach())
    assert total.loss == 0
    assert total.fake_logits is None
    assert total.method == method
    assert_same(gradients(critic, total), truth)


def test_lazy_penalty_at_interpolates(critic, samples, method):
    at = interpolate(*samples, seed=3)
    truth = gradients(critic, (norms_by_hand(critic, at)[1] - 1).square().mean())
    assert_same(gradients(critic, fastgan.gradient_penalty(critic, at, WGANGP(1.0), method=method)), truth)
