"""Critics with separate statistics for data and samples, against the contexts written out around each call."""

import copy
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from torch import nn

from fastgan.losses import LOSSES, maximum_mean_discrepancy, nonsaturating
from fastgan.nn import SplitBatchNorm2d, fake_statistics
from fastgan.ops import interpolation_weights
from fastgan.penalties import R1, R2, WGANGP, critic_loss, differentiable_critic_loss, gradient_penalty

MOMENTUM = 0.3
PENALTIES = R1(10.0), R2(2.0), WGANGP(10.0)


def network(outputs=1):
    layers = nn.Conv2d(2, 3, 3), SplitBatchNorm2d(3, momentum=MOMENTUM), nn.LeakyReLU(0.2)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(3 * 4, outputs)).double()


@pytest.fixture
def critic(generator):
    """With statistics of data and of samples that are far apart."""
    made = network()
    with torch.no_grad():
        made[1].running_mean.copy_(torch.randn(2, 3) * 2)
        made[1].running_var.copy_(torch.rand(2, 3) + 0.2)
    return made


@pytest.fixture
def batches(generator):
    real, fake = torch.randn(2, 6, 2, 4, 4, dtype=torch.float64)
    return real, 0.7 * fake - 1.5


def weights_between():
    return interpolation_weights(torch.randint(2**62, (1,)), 6, torch.device("cpu")).double().view(-1, 1, 1, 1)


def squared_norms(critic, points):
    points = points.detach().requires_grad_()
    (g,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    return g.square().sum((1, 2, 3))


def textbook(critic, real, fake):
    """(loss, penalties): every call in its context; interpolates see the statistics of data."""
    eps = weights_between()
    loss_real, r1 = critic(real), squared_norms(critic, real)
    with fake_statistics(critic):
        loss_fake, r2 = critic(fake), squared_norms(critic, fake)
    between = squared_norms(critic, eps * real + (1 - eps) * fake).sqrt()
    penalties = {"r1": 5 * r1.mean(), "r2": r2.mean(), "wgan-gp": 10 * (between - 1).square().mean()}
    return nonsaturating.critic(loss_real, loss_fake), penalties


WAYS = {
    "auto": partial(critic_loss, penalties=PENALTIES),
    "one pass": partial(critic_loss, penalties=PENALTIES, method="one_pass"),
    "double backward": partial(critic_loss, penalties=PENALTIES, method="double_backward"),
    "compiled": partial(critic_loss, penalties=PENALTIES, compile="aot_eager"),
    "differentiable": partial(differentiable_critic_loss, loss=nonsaturating, penalties=PENALTIES),
}


@pytest.mark.parametrize(
    ("way", "training"),
    [(way, training) for way in WAYS for training in (True, False) if not (way == "one pass" and training)],
)
def test_the_loss_and_its_gradient(way, training, critic, batches):
    critic.train(training)
    by_hand = copy.deepcopy(critic)
    torch.manual_seed(3)
    found = WAYS[way](critic, *batches)
    found.backward()
    torch.manual_seed(3)
    loss, penalties = textbook(by_hand, *batches)
    expected = torch.autograd.grad(loss + sum(penalties.values()), list(by_hand.parameters()))
    torch.testing.assert_close(found.loss, loss.detach())
    torch.testing.assert_close(found.penalties, {name: value.detach() for name, value in penalties.items()})
    torch.testing.assert_close([p.grad for p in critic.parameters()], list(expected), rtol=1e-8, atol=1e-9)
    if way in ("auto", "compiled"):
        assert found.method == ("double_backward" if training else "one_pass")


@pytest.mark.parametrize("penalties", [(), (R1(1.0),), PENALTIES], ids=["none", "r1", "all"])
@pytest.mark.parametrize("compile", [False, "aot_eager"], ids=["eager", "compiled"])
def test_the_averages_are_of_data_and_of_samples_alone(penalties, compile, critic, generator):
    """By hand over several calls; interpolates move neither."""
    mean, var = critic[1].running_mean.clone(), critic[1].running_var.clone()
    for _ in range(3):
        real, fake = torch.randn(2, 6, 2, 4, 4, dtype=torch.float64)
        batches = real + 2, fake - 2
        critic_loss(critic, *batches, penalties=penalties, compile=compile).backward()
        for row, batch in enumerate(batches):
            h = critic[0](batch).detach().transpose(0, 1).flatten(1)
            mean[row] += MOMENTUM * (h.mean(1) - mean[row])
            var[row] += MOMENTUM * (h.var(1) - var[row])
    torch.testing.assert_close(critic[1].running_mean, mean)
    torch.testing.assert_close(critic[1].running_var, var)


@pytest.mark.parametrize(("penalty", "moved"), [(R1(1.0), 0), (R2(1.0), 1), (WGANGP(1.0), None)])
def test_a_penalty_alone_says_what_its_points_are(penalty, moved, critic, batches):
    before = critic[1].running_mean.clone()
    found = gradient_penalty(critic, batches[1], penalty)
    assert [i for i in range(2) if (critic[1].running_mean[i] != before[i]).all()] == ([] if moved is None else [moved])
    critic.eval()
    for method in ("one_pass", "double_backward"):
        found = gradient_penalty(critic, batches[1], penalty, method=method)
        with fake_statistics(critic) if moved == 1 else nullcontext():
            expected = squared_norms(critic, batches[1]).sqrt()
        torch.testing.assert_close(found.gradient_norms[penalty.name], expected.detach())


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("compute", [critic_loss, differentiable_critic_loss])
def test_penalties_of_a_witness_function(compute, training, generator, batches):
    """The gradient of mean_j k(., phi(x_j)) - mean_j k(., phi(G(z_j))), the features of each batch in its context."""
    critic = network(outputs=4).train(training)
    nn.init.normal_(critic[1].running_mean)
    by_hand = copy.deepcopy(critic)
    found = compute(critic, *batches, loss=LOSSES["mmd"], penalties=(R2(2.0),))
    found.backward()
    real, fake = batches[0], batches[1].clone().requires_grad_()
    phi_real = by_hand(real)
    with fake_statistics(by_hand):
        phi_fake = by_hand(fake)
    loss = -maximum_mean_discrepancy(phi_real, phi_fake)
    moving = phi_fake.view_as(phi_fake)
    (slopes,) = torch.autograd.grad(LOSSES["mmd"].witness(moving, phi_real, phi_fake).sum(), moving, create_graph=True)
    (g,) = torch.autograd.grad(phi_fake, fake, slopes, create_graph=True)
    expected = torch.autograd.grad(loss + g.square().sum((1, 2, 3)).mean(), list(by_hand.parameters()))
    torch.testing.assert_close([p.grad for p in critic.parameters()], list(expected), rtol=1e-8, atol=1e-10)
    if compute is critic_loss:  # the other calls the critic on samples once more
        torch.testing.assert_close(critic.state_dict(), by_hand.state_dict())


def test_plain_functions_enter_the_context_themselves(critic, batches):
    """Whatever a function of a batch is made of, nobody changes it."""
    critic.eval()
    found = critic_loss(lambda x: critic(x), *batches, penalties=())
    torch.testing.assert_close(found.fake_logits, critic(batches[1]).detach())
