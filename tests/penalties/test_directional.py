"""method="directional" against the textbook double backward in float64, for smooth critics."""

import copy
import itertools
import random
import statistics
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import fastgan
from fastgan.penalties import DRAGAN, R1, R2, WGANGP, Directional
from tests.penalties.common import norms_by_hand, plain
from tests.penalties.critics import batch, build, gradients, textbook
from tests.penalties.smooth_critics import SMOOTH, composed, convolutional, error, group_norm, random_critic
from tests.penalties.test_exact import LOSSES, PENALTIES


def truth_of(critic, samples, loss, penalties, seed):
    """The textbook's critic after its call, and its gradient."""
    other = composed(copy.deepcopy(critic))
    torch.manual_seed(seed)
    total = textbook(other, *samples, loss, **PENALTIES[penalties][0])
    return other, total, gradients(other, total)


@pytest.mark.parametrize("penalties", PENALTIES)
@pytest.mark.parametrize("kind", SMOOTH)
def test_equals_the_textbook(kind, penalties, seed):
    torch.manual_seed(seed)
    critic, samples = build(SMOOTH[kind]), batch(SMOOTH[kind])
    for loss in ("nonsaturating", "coupled by a function"):
        other, expected, truth = truth_of(critic, samples, LOSSES[loss], penalties, seed)
        after = torch.rand(1)
        torch.manual_seed(seed)
        real, fake, labels = samples
        ours = copy.deepcopy(critic)
        found = fastgan.critic_loss(
            ours, real, fake, loss=LOSSES[loss], penalties=PENALTIES[penalties][1], labels=labels, method="directional"
        )
        assert found.method == "directional"
        assert torch.equal(torch.rand(1), after)  # as many random numbers drawn as by one run of each batch
        torch.testing.assert_close(found.detach().as_subclass(torch.Tensor), expected.detach(), rtol=1e-12, atol=1e-12)
        assert error(gradients(ours, found), truth) <= 1e-7
        for (name, a), b in zip(ours.named_buffers(), other.buffers(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12, msg=f"buffer {name}")


@pytest.mark.parametrize("kind", ["transformer", "group norm", "batch norm"])
def test_half_the_step_has_a_quarter_of_the_error(kind, seed):
    torch.manual_seed(seed)
    critic, samples = build(SMOOTH[kind]), batch(SMOOTH[kind])
    *_, truth = truth_of(critic, samples, plain, "both", seed)
    errors = []
    for step in (4e-3, 2e-3, 1e-3):
        method = Directional(step)
        found = fastgan.critic_loss(critic, *samples[:2], loss=plain, penalties=PENALTIES["both"][1], method=method)
        errors.append(error(gradients(critic, found), truth))
    for larger, smaller in itertools.pairwise(errors):
        assert 3.2 <= larger / smaller <= 4.8


@pytest.mark.parametrize(("precision", "limit"), [(torch.float32, 1e-4), (torch.bfloat16, 3e-2)])
def test_error_at_the_step_chosen(precision, limit, seed):
    """Of the gradient of the loss and R1, over random critics; who is far from that is told so."""
    torch.manual_seed(seed)
    random.seed(seed)
    errors = []
    for _ in range(25):
        critic, (real, fake, _) = random_critic(), batch(SMOOTH["convolutions"], dtype=torch.float32)
        exact = copy.deepcopy(critic).double()
        *_, truth = truth_of(exact, (real.double(), fake.double(), None), plain, "reals", seed)
        half = torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16)
        with half, warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            found = fastgan.critic_loss(critic, real, fake, loss=plain, penalties=(R1(10.0),), method="directional")
        assert found.gradient_norms["r1"].dtype == torch.float32
        if not any("departs from a line" in str(warning.message) for warning in told):
            errors.append(error(gradients(critic, found), truth))
    assert statistics.median(errors) <= limit
    assert max(errors) <= 20 * limit


def test_the_error_is_estimated(seed):
    torch.manual_seed(seed)
    critic, samples = build(SMOOTH["transformer"]), batch(SMOOTH["transformer"])
    *_, truth = truth_of(critic, samples, plain, "both", seed)
    arguments = {"loss": plain, "penalties": PENALTIES["both"][1]}
    found = fastgan.critic_loss(critic, *samples[:2], method=Directional(2e-3, estimate=True), **arguments)
    assert found.error_estimate.item() == pytest.approx(error(gradients(critic, found), truth), rel=0.1)
    assert fastgan.critic_loss(critic, *samples[:2], method="directional", **arguments).error_estimate is None


@pytest.mark.parametrize("kind", ["transformer", "batch norm", "dropout"])
def test_a_penalty_alone(kind, seed):
    torch.manual_seed(seed)
    critic, x = build(SMOOTH[kind]), batch(SMOOTH[kind])[0]
    for penalty, cost in ((WGANGP(3.0, 0.1), lambda n: 3 * (n - 0.1).square()), (R2(3.0), lambda n: 1.5 * n.square())):
        other = composed(copy.deepcopy(critic))
        torch.manual_seed(seed)
        expected = cost(norms_by_hand(other, x)[1]).mean()
        ours = copy.deepcopy(critic)
        torch.manual_seed(seed)
        found = fastgan.gradient_penalty(ours, x, penalty, method="directional")
        torch.testing.assert_close(found.detach().as_subclass(torch.Tensor), expected.detach(), rtol=1e-12, atol=1e-12)
        assert error(gradients(ours, found), gradients(other, expected)) <= 1e-7


def test_dragan_and_points_that_cost_nothing(seed):
    """One-sided above every norm: v is 0, the penalty is 0, and the gradient is the loss's own."""
    torch.manual_seed(seed)
    for kind in ("transformer", "batch norm"):
        critic, (real, fake, _) = build(SMOOTH[kind]), batch(SMOOTH[kind])
        for penalty in (R1(0.0), WGANGP(5.0, 1e6, one_sided=True), DRAGAN(5.0, 1e6, one_sided=True)):
            ours = copy.deepcopy(critic)
            found = fastgan.critic_loss(ours, real, fake, loss=plain, penalties=(penalty,), method="directional")
            truth = gradients(copy.deepcopy(critic), plain(critic(real), critic(fake)))
            other = copy.deepcopy(critic)
            truth = gradients(other, plain(other(real), other(fake)))
            assert error(gradients(ours, found), truth) <= 1e-10


def test_samples_of_zeros(seed):
    """Black images, among others and alone, are displaced too."""
    torch.manual_seed(seed)
    critic = build(SMOOTH["transformer"])
    for real in (torch.zeros(4, 3, 8, 8), torch.cat([torch.zeros(2, 3, 8, 8), torch.randn(2, 3, 8, 8)])):
        samples = (real.double(), torch.randn(4, 3, 8, 8).double(), None)
        *_, truth = truth_of(critic, samples, plain, "reals", seed)
        found = fastgan.critic_loss(critic, *samples[:2], loss=plain, penalties=(R1(10.0),), method="directional")
        assert error(gradients(critic, found), truth) <= 1e-7


def test_strided_and_channels_last_samples(seed):
    torch.manual_seed(seed)
    critic = build(SMOOTH["group norm"])
    wide = torch.randn(4, 3, 16, 16).double()
    for real in (wide[:, :, ::2, ::2], wide[..., :8, :8].contiguous(memory_format=torch.channels_last)):
        samples = (real, torch.randn(4, 3, 8, 8).double(), None)
        *_, truth = truth_of(critic, samples, plain, "reals", seed)
        found = fastgan.critic_loss(critic, *samples[:2], loss=plain, penalties=(R1(10.0),), method="directional")
        assert error(gradients(critic, found), truth) <= 1e-7


def test_backward_scales_accumulates_and_repeats(seed):
    torch.manual_seed(seed)
    critic, (real, fake, _) = build(SMOOTH["transformer"]), batch(SMOOTH["transformer"])
    total = fastgan.critic_loss(critic, real, fake, penalties=(R1(2.0),), method="directional")
    (65536 * total).backward(retain_graph=True)
    scaled = {name: p.grad.clone() for name, p in critic.named_parameters()}
    critic.zero_grad()
    total.backward(retain_graph=True)
    once = {name: p.grad.clone() for name, p in critic.named_parameters()}
    total.backward()
    for name, p in critic.named_parameters():
        torch.testing.assert_close(scaled[name], 65536 * once[name])
        torch.testing.assert_close(p.grad, 2 * once[name])
    with pytest.raises(RuntimeError, match="a second time"):
        total.backward()


def test_the_gradient_is_not_differentiated_again(seed):
    torch.manual_seed(seed)
    critic, (real, fake, _) = build(SMOOTH["convolutions"]), batch(SMOOTH["convolutions"])
    total = fastgan.critic_loss(critic, real, fake, penalties=(R1(2.0),), method="directional")
    (g,) = torch.autograd.grad(total, critic[0].weight, create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        g.sum().backward()


def test_what_else_the_loss_and_the_weights_are_made_of(seed):
    """A temperature in the loss, and weights that a network outside of the critic makes, get their gradients."""
    torch.manual_seed(seed)
    maker, temperature = nn.Linear(4, 24).double(), nn.Parameter(torch.tensor(2.0).double())
    z, (real, fake) = torch.randn(4).double(), torch.randn(2, 5, 12).double()
    parameters = (*maker.parameters(), temperature)

    def loss(r, f):
        return plain(temperature * r, temperature * f)

    def grads(method):
        w = maker(z).view(2, 12)
        critic = lambda x: torch.tanh(F.linear(x, w)).sum(1)  # noqa: E731
        total = fastgan.critic_loss(critic, real, fake, loss=loss, penalties=(R1(3.0),), method=method)
        return dict(enumerate(torch.autograd.grad(total, parameters)))

    assert error(grads("directional"), grads("double_backward")) <= 1e-8


def test_a_simultaneous_generator_update(seed):
    torch.manual_seed(seed)
    for kind, loss in (("transformer", "nonsaturating"), ("batch norm", "wasserstein")):
        critic, (real, _, _) = build(SMOOTH[kind]), batch(SMOOTH[kind])
        generator, z = nn.Linear(4, 192).double(), torch.randn(6, 4).double()
        fake = generator(z).view(6, 3, 8, 8)
        other = copy.deepcopy(critic)
        total = fastgan.critic_loss(critic, real, fake, loss=loss, penalties=(R1(1.0), R2(1.0)), method="directional")
        total.backward()
        fastgan.generator_loss_from(total).backward()
        found = generator.weight.grad.clone()
        generator.zero_grad()
        again = other(generator(z).view(6, 3, 8, 8))
        (-again.mean() if loss == "wasserstein" else F.softplus(-again).mean()).backward()
        torch.testing.assert_close(found, generator.weight.grad)


def test_packs(seed):
    torch.manual_seed(seed)
    inside = nn.Sequential(nn.Conv2d(6, 8, 3, 2, 1), nn.SiLU(), nn.Flatten(), nn.Linear(128, 1)).double()
    critic, (real, fake) = fastgan.nn.PackedCritic(inside, 2), torch.randn(2, 6, 3, 8, 8).double()
    found = [
        gradients(inside, fastgan.critic_loss(critic, real, fake, penalties=(R1(3.0),), method=method))
        for method in ("directional", "double_backward")
    ]
    assert error(*found) <= 1e-8


@pytest.mark.parametrize("kind", ["transformer", "group norm", "spectral norm", "batch norm"])
def test_compiled(kind, seed, fresh_dynamo):
    torch.manual_seed(seed)
    critic, samples = build(SMOOTH[kind]), batch(SMOOTH[kind])
    *_, truth = truth_of(critic, samples, plain, "all", seed)
    for compile in ("aot_eager", False):  # the second time with another path than the first
        ours = copy.deepcopy(critic)
        torch.manual_seed(seed)
        arguments = {"loss": plain, "penalties": PENALTIES["all"][1], "method": "directional", "compile": compile}
        assert error(gradients(ours, fastgan.critic_loss(ours, *samples[:2], **arguments)), truth) <= 1e-7


def test_a_compiled_part(seed, fresh_dynamo):
    """PyTorch does not differentiate it twice, so that `auto` takes differences."""
    torch.manual_seed(seed)
    critic, samples = build(SMOOTH["group norm"]), batch(SMOOTH["group norm"])
    *_, truth = truth_of(critic, samples, plain, "both", seed)
    critic[3] = torch.compile(critic[3], backend="aot_eager")
    for _ in range(2):
        found = fastgan.critic_loss(critic, *samples[:2], loss=plain, penalties=PENALTIES["both"][1])
        assert found.method == "directional"
        assert "torch.compile" in found.reason
        found = {name.replace("_orig_mod.", ""): g for name, g in gradients(critic, found).items()}
        assert error(found, truth) <= 1e-7


def test_auto_takes_it_where_pytorch_has_no_second_derivative(seed):
    torch.manual_seed(seed)
    critic, samples = build(SMOOTH["transformer"]), batch(SMOOTH["transformer"])
    *_, truth = truth_of(critic, samples, plain, "both", seed)
    for _ in range(2):
        found = fastgan.critic_loss(critic, *samples[:2], loss=plain, penalties=PENALTIES["both"][1])
        if found.method == "directional":
            assert "scaled_dot_product" in found.reason
            assert error(gradients(critic, found), truth) <= 1e-7
    other = build(SMOOTH["group norm"])
    assert fastgan.critic_loss(other, *samples[:2]).method == "double_backward"


def test_a_flag_that_changes_between_steps(seed):
    """The kind of call is the same, the operations are others: batch statistics where there were none."""
    torch.manual_seed(seed)

    class Flagged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last, self.flag = nn.Linear(6, 8), nn.Linear(8, 1), "apart"

        def forward(self, x):
            h = torch.tanh(self.first(x))
            if self.flag == "mixed":
                h = h / (h.var(0, keepdim=True) + 0.1).sqrt()
            return self.last(F.relu(h) if self.flag == "kink" else h)

    critic, samples = Flagged().double(), (*torch.randn(2, 5, 6).double(), None)
    for flag in ("apart", "mixed", "apart", "mixed"):
        critic.flag = flag
        *_, truth = truth_of(critic, samples, plain, "reals", seed)
        found = fastgan.critic_loss(critic, *samples[:2], loss=plain, penalties=(R1(10.0),), method="directional")
        assert error(gradients(critic, found), truth) <= 1e-8
    critic.flag = "kink"
    with pytest.raises(fastgan.NotSmoothError, match="relu"):
        fastgan.critic_loss(critic, *samples[:2], method="directional")


def test_a_random_probe_is_that_of_the_code_bases(seed):
    """lambda mean (D(x) - D(x + sigma z))^2 with lambda = gamma / (2 sigma^2); exact on average where D is linear."""
    torch.manual_seed(seed)
    critic, (real, fake, _) = build(SMOOTH["transformer"]), batch(SMOOTH["transformer"])
    found = fastgan.critic_loss(critic, real, fake, loss=plain, penalties=(R1(4.0),), method="random_probe")
    assert found.method == "random_probe"
    torch.manual_seed(seed)
    build(SMOOTH["transformer"])
    batch(SMOOTH["transformer"])
    z = torch.randn_like(real)
    logits = critic(real)
    expected = plain(logits, critic(fake)) + 4.0 / 2 / 0.01**2 * (logits - critic(real + 0.01 * z)).square().mean()
    torch.testing.assert_close(found.detach().as_subclass(torch.Tensor), expected.detach())
    assert error(gradients(critic, found), gradients(critic, expected)) <= 1e-9

    linear = nn.Sequential(nn.Flatten(), nn.Linear(192, 1)).double()
    x = torch.randn(4096, 3, 8, 8).double()
    estimate = fastgan.gradient_penalty(linear, x, R2(2.0), method="random_probe")
    exact = fastgan.gradient_penalty(linear, x, R2(2.0))
    assert estimate.item() == pytest.approx(exact.item(), rel=5 * (2 / 4096) ** 0.5)
    with pytest.raises(ValueError, match="expected R1 and R2 alone"):
        fastgan.critic_loss(linear, real, fake, penalties=(WGANGP(1.0),), method="random_probe")


class Several(nn.Module):
    """A map, a coarser one of other layers, and features."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = (convolutional(group_norm, map_=True) for _ in range(2))

    def forward(self, x: torch.Tensor) -> dict:
        return {"maps": [self.fine(x), self.coarse(F.avg_pool2d(x, 2))], "features": self.fine[:3](x).mean((2, 3))}


def _with_features(real: dict, fake: dict) -> torch.Tensor:
    maps = zip(real["maps"], fake["maps"], strict=True)
    return sum(plain(r, f) for r, f in maps) + (real["features"].mean(0) - fake["features"].mean(0)).square().sum()


@pytest.mark.parametrize("reduce", ["sum", "mean"])
@pytest.mark.parametrize("kind", ["map", "list", "dict"])
def test_maps_lists_and_dicts(kind, reduce, seed):
    torch.manual_seed(seed)
    critic, (real, fake, _) = Several().double(), batch(SMOOTH["group norm"])
    run = {"map": critic.fine, "list": lambda x: critic(x)["maps"], "dict": critic}[kind]
    loss, judge = (_with_features, "maps") if kind == "dict" else ("hinge" if kind == "list" else "least_squares", None)
    found = []
    for method in ("directional", "double_backward"):
        torch.manual_seed(seed)
        total = fastgan.critic_loss(
            run, real, fake, loss=loss, penalties=PENALTIES["all"][1], judge=judge, reduce=reduce, method=method
        )
        found.append((total, gradients(critic, total)))
    torch.testing.assert_close(*(total.detach().as_subclass(torch.Tensor) for total, _ in found))
    torch.testing.assert_close(found[0][0].real_logits, found[1][0].real_logits)
    assert error(*(gradient for _, gradient in found)) <= 1e-7


VIEWS = {
    "attention by hand": lambda h: ((h @ h.mT).softmax(-1) @ h).flatten(1),
    "fused attention of three dimensions": lambda h: F.scaled_dot_product_attention(h, h, h).flatten(1),
    "distances": lambda h: fastgan.ops.attention(h, h, h, kind="l2").flatten(1),
    "distances, other keys": lambda h: fastgan.ops.attention(h, h.flip(1).tanh(), h, kind="l2").flatten(1),
    "a slice, reshaped": lambda h: h[:, ::2].reshape(len(h), 1, -1, 4).expand(-1, 2, -1, -1).flatten(1),
    "channels last": lambda h: F.silu(h[:, None].to(memory_format=torch.channels_last)).flatten(2).flatten(1),
}


@pytest.mark.parametrize("method", ["directional", Directional(force=True)], ids=str)
@pytest.mark.parametrize("kind", VIEWS)
def test_reshapes_are_no_other_path(kind, method, seed):
    """autograd names them otherwise where operations are watched, as at the samples."""
    torch.manual_seed(seed)
    first, last = nn.Linear(4, 4).double(), nn.LazyLinear(1).double()
    critic = nn.Sequential(first, nn.Tanh(), Call(VIEWS[kind]), last)
    real, fake = torch.randn(2, 3, 5, 4).double()
    critic(real)
    with fastgan.backend("reference"), sdpa_kernel(SDPBackend.MATH):
        truth = gradients(critic, textbook(critic, real, fake, None, plain, r1=2.0))
    found = fastgan.critic_loss(critic, real, fake, loss=plain, penalties=(R1(2.0),), method=method)
    assert error(gradients(critic, found), truth) <= 1e-7


class Call(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_an_accelerated_critic(seed):
    """It runs as it was written where operations are watched, and not beside the samples."""
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 8, 3, padding=1), nn.SiLU(), nn.Flatten()]
    critic = nn.Sequential(*layers, nn.Linear(8 * 16, 1)).double()
    real, fake = torch.randn(2, 3, 3, 4, 4).double()
    truth = gradients(critic, textbook(critic, real, fake, None, plain, r1=2.0))
    fastgan.accelerate(critic)
    found = fastgan.critic_loss(critic, real, fake, loss=plain, penalties=(R1(2.0),), method="directional")
    assert error(gradients(critic, found), truth) <= 1e-7
