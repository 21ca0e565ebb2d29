"""Half precision on the CPU: autocast and critics whose weights are half, held against the float64 textbook."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fastgan
from fastgan.penalties import R1, R2
from tests.penalties.critics import CRITICS, batch, build, gradients, textbook

pytestmark = pytest.mark.usefixtures("one_thread")

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
PENALTIES = (R1(10.0), R2(3.0))
METHODS = ("one_pass", "double_backward")


def _supported(dtype: torch.dtype) -> bool:
    try:
        x = torch.randn(2, 3, 6, 6, dtype=dtype, requires_grad=True)
        w = torch.randn(4, 3, 3, 3, dtype=dtype, requires_grad=True)
        (g,) = torch.autograd.grad(F.conv2d(x, w, stride=2).sum(), x, create_graph=True)
        g.float().square().sum().backward()
    except RuntimeError:
        return False
    return True


@pytest.fixture(params=DTYPES)
def dtype(request) -> torch.dtype:
    if not _supported(DTYPES[request.param]):
        pytest.skip(f"this CPU's PyTorch cannot convolve in {request.param}")
    return DTYPES[request.param]


def loss(real: Tensor, fake: Tensor) -> Tensor:
    """In float32, as autocast has it."""
    return F.softplus(-real.float()).mean() + F.softplus(fake.float()).mean()


def penalised(critic: nn.Module, real: Tensor, fake: Tensor, rest: tuple) -> Tensor:
    """Plain PyTorch: the critic in whatever precision it has, norms and penalties in float32."""
    outputs, penalty = [], 0.0
    for x, gamma in ((real, 10.0), (fake, 3.0)):
        x = x.detach().requires_grad_()
        output = critic(x, *rest)
        (g,) = torch.autograd.grad(output.sum(), x, create_graph=True)
        outputs.append(output)
        penalty = penalty + gamma / 2 * g.float().flatten(1).square().sum(1).mean()
    return loss(*outputs) + penalty


def in_half(mode: str, critic: nn.Module, real: Tensor, fake: Tensor, dtype: torch.dtype, compute):
    """compute(critic, real, fake) under autocast or with everything half; the critic in float32 is left as it is."""
    critic = copy.deepcopy(critic)
    if mode == "autocast":
        with torch.autocast("cpu", dtype=dtype):
            total = compute(critic, real, fake)
    else:
        critic = critic.to(dtype)
        total = compute(critic, real.to(dtype), fake.to(dtype))
    return total, critic


def exact(mode: str, critic: nn.Module, real: Tensor, fake: Tensor, labels, dtype: torch.dtype) -> dict[str, Tensor]:
    """The float64 gradient at the weights and inputs that the half-precision critic has."""
    critic = copy.deepcopy(critic)
    if mode == "half":
        critic, real, fake = critic.to(dtype), real.to(dtype), fake.to(dtype)
    critic = critic.double()
    return gradients(critic, textbook(critic, real.double(), fake.double(), labels, loss64, r1=10.0, r2=3.0))


def loss64(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def distance(found: dict[str, Tensor], truth: dict[str, Tensor]) -> float:
    """Of all gradients together, relative."""
    difference = sum((found[n].double() - t).square().sum() for n, t in truth.items())
    return (difference / sum(t.square().sum() for t in truth.values())).sqrt().item()


HALF_MODES = ["autocast", "half"]
KINDS = ["mlp", "dcgan", "resnet", "projection", "equalised", "grouped", "max-pool", "label map", "bias_act"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mode", HALF_MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_as_exact_as_the_textbook_in_the_same_precision(kind, mode, method, dtype, seed):
    torch.manual_seed(seed)
    ours = plain = 0.0
    for _ in range(3):
        critic = build(CRITICS[kind], torch.float32)
        real, fake, labels = batch(CRITICS[kind], 4, torch.float32)
        rest = () if labels is None else (labels,)
        truth = exact(mode, critic, real, fake, labels, dtype)

        total, half = in_half(mode, critic, real, fake, dtype, lambda c, r, f, rest=rest: penalised(c, r, f, rest))
        plain += distance(gradients(half, total), truth)

        total, half = in_half(
            mode,
            critic,
            real,
            fake,
            dtype,
            lambda c, r, f, labels=labels: fastgan.critic_loss(
                c, r, f, loss=loss, penalties=PENALTIES, labels=labels, method=method
            ),
        )
        assert all(p.dtype == torch.float32 for p in (*total.penalties.values(), *total.gradient_norms.values()))
        ours += distance(gradients(half, total), truth)
    assert ours <= 2.5 * plain + 3 * torch.finfo(dtype).eps


@pytest.mark.parametrize("penalties", [(R1(10.0), R2(3.0)), (R1(10.0),)], ids=["both", "reals"])
@pytest.mark.parametrize("kind", ["mlp", "dcgan", "weight norm", "equalised"])
def test_a_loss_scale_of_65536_changes_nothing(kind, penalties, dtype, seed):
    """What GradScaler does at its first step."""
    torch.manual_seed(seed)
    critic = build(CRITICS[kind], torch.float32)
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.mul_(0.5)  # gradients that fit float16 when they are multiplied in float32
    real, fake, _ = batch(CRITICS[kind], 4, torch.float32)
    found = []
    for scale in (1.0, 2.0**16):
        total, half = in_half(
            "autocast",
            critic,
            real,
            fake,
            dtype,
            lambda c, r, f: fastgan.critic_loss(c, r, f, loss=loss, penalties=penalties, method="one_pass"),
        )
        found.append({name: g / scale for name, g in gradients(half, total * scale).items()})
    for name, expected in found[0].items():
        assert found[1][name].isfinite().all(), name
        limit = 2 * torch.finfo(dtype).eps * expected.abs().max().item()
        torch.testing.assert_close(
            found[1][name], expected, rtol=0, atol=limit, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mode", HALF_MODES)
def test_large_gradients_stay_finite(mode, method, dtype, seed):
    """Norms around 300, whose squares float16 cannot hold."""
    torch.manual_seed(seed)
    critic = nn.Sequential(nn.Linear(16, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))
    x = torch.randn(4, 16)
    with torch.no_grad():
        g = critic[2].weight @ critic[0].weight
        critic[2].weight.mul_(300 / g.norm())
    total, half = in_half(
        mode,
        critic,
        x,
        0.5 * x,
        dtype,
        lambda c, r, f: fastgan.critic_loss(c, r, f, penalties=(R1(0.1),), method=method),
    )
    norms, penalty = total.gradient_norms["r1"], total.penalties["r1"]
    assert norms.dtype == penalty.dtype == torch.float32
    assert 100 < norms.max() < 2000
    torch.testing.assert_close(penalty, 0.05 * norms.square().mean(), rtol=1e-5, atol=0)
    assert all(g.isfinite().all() for g in gradients(half, total).values())


@pytest.mark.parametrize("method", METHODS)
def test_the_total_of_a_float16_critic_is_finite_where_its_penalty_is(method):
    critic = nn.Linear(16, 1).half()
    with torch.no_grad():
        critic.weight.fill_(75.0)
    total = fastgan.critic_loss(critic, torch.randn(4, 16).half(), torch.randn(4, 16).half(), method=method)
    assert total.penalties["r1"] > 1e5
    assert total.isfinite()


@pytest.mark.parametrize("mode", HALF_MODES)
@pytest.mark.parametrize("layer", ["linear", "convolution"])
def test_tiny_gradients_do_not_vanish(layer, mode, seed):
    """||grad D|| around 1e-6 in float16, whose smallest number is 6e-8."""
    torch.manual_seed(seed)
    critic, x = next((c, x) for c, x in iter(lambda: tiny(layer), None) if not near_a_kink(c, x))
    weight = 1e8 if mode == "half" else 1.0  # so that the half weights' half gradients can be represented
    total, half = in_half(
        mode, critic, x, x, torch.float16, lambda c, r, f: fastgan.gradient_penalty(c, r, R1(weight), method="one_pass")
    )
    assert 1e-8 < total.gradient_norms["r1"].max() < 1e-4
    found = gradients(half, total)
    reference = copy.deepcopy(half).double()
    at = (x.half() if mode == "half" else x).double().requires_grad_()
    (g,) = torch.autograd.grad(reference(at).sum(), at, create_graph=True)
    truth = gradients(reference, weight / 2 * g.flatten(1).square().sum(1).mean())
    assert distance(found, truth) <= 0.05


def tiny(layer: str) -> tuple[nn.Module, Tensor]:
    """A random critic whose gradient is tiny, and samples."""
    if layer == "linear":
        critic = nn.Sequential(
            nn.Linear(32, 32, bias=False),
            nn.LeakyReLU(0.2),
            nn.Linear(32, 32, bias=False),
            nn.LeakyReLU(0.2),
            nn.Linear(32, 1, bias=False),
        )
        x = torch.randn(4, 32)
    else:
        critic = nn.Sequential(
            nn.Conv2d(2, 8, 3, bias=False),
            nn.LeakyReLU(0.2),
            nn.Conv2d(8, 8, 3, bias=False),
            nn.LeakyReLU(0.2),
            nn.Conv2d(8, 1, 2, bias=False),
            nn.Flatten(),
        )
        x = torch.randn(4, 2, 6, 6)
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.mul_(0.02)
    return critic, x


@torch.no_grad()
def near_a_kink(critic: nn.Sequential, x: Tensor) -> bool:
    """Whether float16's rounding (2^-11 of a number) may put an activation on the other side of its kink."""
    for layer in critic:
        if isinstance(layer, nn.LeakyReLU) and x.abs().min() < 2e-3 * x.std():
            return True
        x = layer(x)
    return False


@pytest.mark.parametrize("weight", [pytest.param(1e-5), 0.0])
def test_small_penalties_of_a_float16_critic_are_finite(weight, seed):
    torch.manual_seed(seed)
    critic = nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1)).half()
    total = fastgan.gradient_penalty(critic, torch.randn(4, 6).half(), R1(weight), method="one_pass")
    found = gradients(critic, total)
    assert all(g.isfinite().all() and g.abs().max() <= 1e-3 for g in found.values())


def test_a_penalty_and_a_loss_of_zero_in_float16():
    """Nothing to normalise by."""
    critic = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1)).half()
    x = torch.randn(4, 6).half()
    total = fastgan.critic_loss(critic, x, x, loss=lambda r, f: 0 * r.mean() + f.mean(), penalties=(R1(0.0),))
    assert total.method == "one_pass"
    assert all(g.isfinite().all() for g in gradients(critic, total).values())


class Island(nn.Module):
    """The last layers in float32, as networks have them that overflow there."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.first(x), 0.2)
        with torch.autocast("cpu", enabled=False):
            return self.third(F.leaky_relu(self.second(h.to(self.second.weight.dtype)), 0.2))


class SeenCopy(nn.Module):
    """Computes with a half-precision copy of a parameter, whose gradient somebody doubles or keeps."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.seen = how, []
        self.w, self.b = nn.Parameter(torch.randn(8, 6)), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        w = self.w.bfloat16()
        if w.requires_grad and self.how != "retained":
            w.register_hook(lambda g: g * 2)
        elif w.requires_grad:
            w.retain_grad()
            self.seen.append(w)
        product = x.bfloat16() @ w.t() if self.how == "hook, transposed by hand" else F.linear(x.bfloat16(), w)
        return self.b(F.leaky_relu(product, 0.2).float())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("how", ["hook", "hook, transposed by hand", "retained"])
def test_a_half_precision_copy_has_its_own_gradient(how, method, seed):
    torch.manual_seed(seed)
    critic, real, fake = SeenCopy(how), torch.randn(64, 6), torch.randn(64, 6)
    truth = gradients(critic, penalised(critic, real, fake, ()))
    kept = sum(w.grad.double() for w in critic.seen)
    critic.seen.clear()
    total = fastgan.critic_loss(critic, real, fake, loss=loss, penalties=PENALTIES, method=method)
    assert distance(gradients(critic, total), {name: g.double() for name, g in truth.items()}) <= 0.05
    if critic.seen:
        found = sum(w.grad.double() for w in critic.seen if w.grad is not None)
        assert (found - kept).norm() <= 0.05 * kept.norm()


@pytest.mark.parametrize("method", METHODS)
def test_layers_without_autocast_inside_autocast(method, dtype):
    torch.manual_seed(0)
    critic, real, fake = Island(), torch.randn(4, 6), torch.randn(4, 6)
    truth = exact("autocast", critic, real, fake, None, dtype)
    total, critic = in_half(
        "autocast",
        critic,
        real,
        fake,
        dtype,
        lambda c, r, f: fastgan.critic_loss(c, r, f, loss=loss, penalties=PENALTIES, method=method),
    )
    assert distance(gradients(critic, total), truth) <= 16 * torch.finfo(dtype).eps


@pytest.mark.parametrize("method", METHODS)
def test_backward_inside_autocast(method, dtype, seed):
    torch.manual_seed(seed)
    critic = build(CRITICS["dcgan"], torch.float32)
    real, fake, _ = batch(CRITICS["dcgan"], 4, torch.float32)
    found = []
    for inside in (False, True):
        other = copy.deepcopy(critic)
        with torch.autocast("cpu", dtype=dtype):
            total = fastgan.critic_loss(other, real, fake, penalties=PENALTIES, method=method)
        with torch.autocast("cpu", dtype=dtype, enabled=inside):
            found.append(gradients(other, total))
    assert distance(found[1], {name: g.double() for name, g in found[0].items()}) <= torch.finfo(dtype).eps
