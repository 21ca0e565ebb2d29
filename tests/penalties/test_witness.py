"""Penalties of objectives of features: the witness function's gradient, written out pair by pair in float64."""

import copy

import pytest
import torch
from torch import nn

import fastgan
from fastgan.losses import LOSSES, Loss, maximum_mean_discrepancy
from fastgan.ops import interpolation_weights
from fastgan.penalties import DRAGAN, R1, R2, WGANGP, differentiable_critic_loss
from tests.penalties.critics import gradients, relative_error

pytestmark = pytest.mark.usefixtures("one_thread")

# Kernels of d^2 once more.
KERNELS = {
    "mmd": lambda d: sum((1 + d / (2 * a)) ** -a for a in (0.2, 0.5, 1, 2, 5)),
    "mmd:gaussian": lambda d: sum(torch.exp(-d / (2 * w * w)) for w in (1, 2, 4, 8, 16)),
}
PENALTIES = {
    "r1": (R1(10.0),),
    "r2": (R2(3.0),),
    "wgan-gp": (WGANGP(10.0),),
    "one-sided": (WGANGP(10.0, 0.3, one_sided=True),),
    "dragan": (DRAGAN(5.0, 0.4),),
    "all": (R1(2.0), R2(5.0), WGANGP(1.0), R1(0.5)),
}


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.LeakyReLU(0.2), nn.Conv2d(6, 6, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(24, 4)
    )  # fmt: skip


def smooth() -> nn.Module:
    """For finite differences: where one steps over a kink, the penalty jumps."""
    critic = convolutional()
    critic[1] = nn.Softplus()
    return critic


def of_maps() -> nn.Module:
    """Piecewise affine; its features are a map."""
    return nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), fastgan.nn.BiasAct(4), nn.Conv2d(4, 3, 3, stride=2))


NETWORKS = {"convolutional": convolutional, "of maps": of_maps}


@pytest.fixture(params=NETWORKS)
def critic(request, generator) -> nn.Module:
    return NETWORKS[request.param]().double()


@pytest.fixture
def samples(generator):
    real, fake = torch.randn(2, 5, 2, 7, 7, dtype=torch.float64, generator=generator)
    return real, 0.7 * fake + 0.3


def points_of(penalty, real, fake):
    """In the order of critic_loss's random numbers."""
    if isinstance(penalty, WGANGP):
        eps = interpolation_weights(torch.randint(2**62, (1,)), len(real), real.device).double().view(-1, 1, 1, 1)
        return eps * real + (1 - eps) * fake
    if isinstance(penalty, DRAGAN):
        return real + 0.5 * real.std(correction=0) * torch.randn_like(real)
    return real if isinstance(penalty, R1) else fake


def textbook(critic, real, fake, loss, penalties):
    """Loss plus penalties: one pass through the critic for every use of it, kernels pair by pair, autograd twice."""
    total, norms = LOSSES[loss].critic(critic(real), critic(fake)), []
    for penalty in penalties:
        x = points_of(penalty, real, fake).clone().requires_grad_()
        value = 0.0
        here = critic(x).flatten(1).to(x.dtype)
        for sample, sign in ((real, 1), (fake, -1)):
            for features in critic(sample).flatten(1).to(x.dtype):
                for p in here:
                    value = value + sign * KERNELS[loss]((p - features).square().sum()) / len(sample)
        (g,) = torch.autograd.grad(value, x, create_graph=True)
        norm = g.flatten(1).norm(2, dim=1)
        norms.append(norm)
        if isinstance(penalty, R1 | R2):
            total = total + penalty.gamma / 2 * norm.square().mean()
        else:
            excess = norm - penalty.target
            total = total + penalty.weight * (excess.clamp(min=0) if penalty.one_sided else excess).square().mean()
    return total, norms


@pytest.mark.parametrize("penalties", PENALTIES)
@pytest.mark.parametrize("loss", KERNELS)
def test_value_norms_and_gradient_are_those_of_the_textbook(loss, penalties, critic, samples, seed):
    torch.manual_seed(seed)
    expected, norms = textbook(other := copy.deepcopy(critic), *samples, loss, PENALTIES[penalties])
    torch.manual_seed(seed)
    found = fastgan.critic_loss(critic, *samples, loss=loss, penalties=PENALTIES[penalties])
    torch.testing.assert_close(torch.Tensor(found.detach()), expected.detach(), rtol=1e-11, atol=1e-12)
    for norm, truth in zip(found.gradient_norms.values(), norms, strict=True):
        torch.testing.assert_close(norm, truth.detach(), rtol=1e-10, atol=1e-13)
    assert relative_error(gradients(critic, found), gradients(other, expected)) <= 1e-10


@pytest.mark.parametrize("loss", KERNELS)
def test_norms_are_finite_differences_of_the_witness_function(loss, samples):
    critic, (real, fake), step = smooth().double(), samples, 1e-5

    def witness(x):
        features = [critic(sample).flatten(1) for sample in (x, real, fake)]
        of_real, of_fake = (KERNELS[loss]((features[0][:, None] - f).square().sum(2)).mean(1) for f in features[1:])
        return of_real - of_fake

    columns = []
    with torch.no_grad():
        for i in range(fake[0].numel()):
            moved = torch.zeros_like(fake).flatten(1)
            moved[:, i] = step
            moved = moved.view_as(fake)
            columns.append((witness(fake + moved) - witness(fake - moved)) / (2 * step))
    found = fastgan.critic_loss(critic, real, fake, loss=loss, penalties=(R2(3.0),))
    # A central difference errs by step^2/6 f''' and by eps f / step.
    torch.testing.assert_close(found.gradient_norms["r2"], torch.stack(columns, 1).norm(dim=1), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("loss", KERNELS)
def test_the_gradient_is_a_finite_difference_of_the_value(loss, samples, generator):
    """In a random direction of the parameters, with the same points between."""
    critic, step = smooth().double(), 1e-5
    direction = [torch.randn(p.shape, dtype=p.dtype, generator=generator) for p in critic.parameters()]

    def moved_by(step):
        other = copy.deepcopy(critic)
        with torch.no_grad():
            for p, d in zip(other.parameters(), direction, strict=True):
                p += step * d
        torch.manual_seed(1)
        return other, fastgan.critic_loss(other, *samples, loss=loss, penalties=(R2(3.0), WGANGP(10.0)))

    found = gradients(*moved_by(0.0))
    slope = sum((g * d).sum() for g, d in zip(found.values(), direction, strict=True)).item()
    difference = (moved_by(step)[1] - moved_by(-step)[1]).item() / (2 * step)
    assert difference == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("penalties", [(R1(1.0), WGANGP(10.0), R2(1.0)), (WGANGP(10.0),)])
def test_what_the_critic_is_called_with(penalties, samples):
    """Data and samples once each, then each further set of points; nothing of the gradient goes to either."""
    critic, seen = convolutional().double(), []
    critic.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].detach()))
    real, fake = (sample.requires_grad_() for sample in samples)
    fastgan.critic_loss(critic, real, fake, loss="mmd", penalties=penalties).backward()
    assert len(seen) == 3
    assert torch.equal(seen[0], real)
    assert torch.equal(seen[1], fake)
    assert real.grad is None
    assert fake.grad is None


def test_samples_of_another_number(samples):
    critic, (real, fake) = convolutional().double(), samples
    expected, _ = textbook(other := copy.deepcopy(critic), real, fake[:3], "mmd", PENALTIES["r1"])
    found = fastgan.critic_loss(critic, real, fake[:3], loss="mmd", penalties=PENALTIES["r1"])
    assert relative_error(gradients(critic, found), gradients(other, expected)) <= 1e-10


def test_labels_go_with_their_samples(samples):
    """Points between take the labels of data."""

    class Conditional(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.embed = convolutional(), nn.Embedding(3, 4)

        def forward(self, x, y):
            seen.append(y)
            return self.body(x) * self.embed(y)

    seen = []
    critic, (real, fake) = Conditional().double(), samples
    of_real, of_fake = torch.randint(3, (2, 5))
    found = fastgan.critic_loss(
        critic, real, fake, loss="mmd", penalties=(WGANGP(10.0), R2(1.0)), labels=of_real, fake_labels=of_fake
    )
    assert [y is of_real for y in seen] == [True, False, True]
    assert [y is of_fake for y in seen] == [False, True, False]
    assert gradients(critic, found)["embed.weight"].abs().sum() > 0


def test_any_loss_with_a_witness(samples):
    """One that tells data from samples by more than its sign: w = <phi(x), E phi(real) - 2 E phi(fake)>."""

    def linear(features, real_features, fake_features):
        return features @ (real_features.mean(0) - 2 * fake_features.mean(0))

    def discrepancy(real_features, fake_features):
        return -(real_features.mean(0) - fake_features.mean(0)).square().sum()

    loss = Loss("linear", discrepancy, lambda fake, real: -discrepancy(real, fake), "", True, "features", False, linear)
    critic = nn.Linear(3, 4, bias=False).double()
    real, fake = torch.randn(2, 6, 3, dtype=torch.float64)
    found = fastgan.critic_loss(critic, real, fake, loss=loss, penalties=(R1(2.0),))
    # For a linear critic the gradient is W^T W (E x - 2 E y) at every point.
    weight = critic.weight.detach().clone().requires_grad_()
    gap = real.mean(0) - fake.mean(0)
    g = weight.T @ weight @ (real.mean(0) - 2 * fake.mean(0))
    expected = -(weight @ gap).square().sum() + g.square().sum()
    torch.testing.assert_close(torch.Tensor(found.detach()), expected.detach())
    found.backward()
    torch.testing.assert_close(critic.weight.grad, torch.autograd.grad(expected, weight)[0])


def test_which_method(samples):
    critic = of_maps().double()
    found = fastgan.critic_loss(critic, *samples, loss="mmd", penalties=(R1(1.0),))
    assert (found.method, found.reason) == (
        "double_backward",
        "the loss is of several numbers per sample, and its penalties are of a function of them",
    )
    found = fastgan.critic_loss(critic, *samples, loss=LOSSES["mmd"], penalties=(R1(1.0),), method="double_backward")
    assert (found.method, found.reason) == ("double_backward", None)
    with pytest.raises(fastgan.NotAffineError, match="one_pass cannot differentiate these penalties: the loss is of s"):
        fastgan.critic_loss(critic, *samples, loss="mmd", penalties=(R1(1.0),), method="one_pass")
    found = fastgan.critic_loss(critic, *samples, loss="mmd", penalties=())
    assert found.method == "one_pass"
    expected = -maximum_mean_discrepancy(*(critic(sample).flatten(1) for sample in samples))
    torch.testing.assert_close(torch.Tensor(found.detach()), expected.detach())


def test_its_gradient_is_not_that_which_the_generator_needs(samples):
    real, fake = samples
    total = fastgan.critic_loss(convolutional().double(), real, fake.requires_grad_(), loss="mmd", penalties=(R2(1.0),))
    with pytest.raises(ValueError, match="and a loss of logits: of features, its gradient is the witness function's"):
        fastgan.generator_loss_from(total)


@pytest.mark.parametrize("loss", KERNELS)
def test_the_differentiable_one_is_the_same_and_knows_of_the_generator(loss, samples, seed):
    critic, (real, fake) = convolutional().double(), samples
    fake.requires_grad_()
    penalties = (R1(2.0), WGANGP(10.0))

    def value(fake):
        torch.manual_seed(seed)
        return differentiable_critic_loss(critic, real, fake, LOSSES[loss], penalties)

    torch.manual_seed(seed)
    expected = fastgan.critic_loss(critic, real, fake, loss=loss, penalties=penalties)
    found = value(fake)
    torch.testing.assert_close(torch.Tensor(found.detach()), torch.Tensor(expected.detach()), rtol=1e-10, atol=1e-12)
    for name, norm in expected.gradient_norms.items():
        torch.testing.assert_close(found.gradient_norms[name], norm, rtol=1e-9, atol=1e-12)
    assert relative_error(gradients(critic, value(fake)), gradients(critic, expected)) <= 1e-9

    # With respect to samples: the points stay where they are, the witness function moves.
    held = WGANGP.points(WGANGP(), real, fake)

    class Held(WGANGP):
        def points(self, real, fake):
            return held

    penalties, step = (R1(2.0), Held(10.0)), 1e-5
    direction = torch.randn_like(fake)
    slope = (torch.autograd.grad(value(fake), fake)[0] * direction).sum().item()
    difference = (value(fake + step * direction) - value(fake - step * direction)).item() / (2 * step)
    assert difference == pytest.approx(slope, rel=1e-5)


def test_gradient_penalty_of_the_witness_by_hand(samples):
    """The scalar critic that `critic_loss` takes, for a loop with a loss of its own."""
    critic, (real, fake) = convolutional().double(), samples
    of_real, of_fake = critic(real), critic(fake)
    found = fastgan.gradient_penalty(lambda x: LOSSES["mmd"].witness(critic(x), of_real, of_fake), fake, R1(3.0))
    whole = fastgan.critic_loss(critic, real, fake, loss="mmd", penalties=(R2(3.0),))
    plain = fastgan.critic_loss(critic, real, fake, loss="mmd", penalties=())
    torch.testing.assert_close(found.penalties["r1"], whole.penalties["r2"])
    expected, without = (gradients(critic, total) for total in (whole, plain))
    truth = {name: expected[name] - without[name] for name in expected}
    assert relative_error(gradients(critic, found), truth) <= 1e-9


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_exact_as_plain_pytorch_that_compares_features_in_float32(dtype, samples):
    critic, penalties = convolutional(), (R1(1.0), R2(1.0))

    def gradient_of(function, network, samples):
        found = gradients(network, function(network, *samples))
        return torch.cat([g.flatten().double() for g in found.values()])

    def ours(network, real, fake):
        return fastgan.critic_loss(network, real, fake, loss="mmd", penalties=penalties)

    def plain(network, real, fake):
        return textbook(network, real, fake, "mmd", penalties)[0]

    exact = gradient_of(plain, copy.deepcopy(critic).double(), samples)
    single = [sample.float() for sample in samples]
    with torch.autocast("cpu", dtype=dtype):
        assert ours(critic, *single).real_logits.dtype == dtype
        assert ours(critic, *single).dtype == torch.float32
        found, expected = (gradient_of(function, critic, single) for function in (ours, plain))
    assert (found - exact).norm() <= 2 * (expected - exact).norm()
