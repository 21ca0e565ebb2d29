"""An accelerated model computes what it did: outputs, gradients, gradients of gradients, and nothing else changes."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn.utils import parametrize

import fastgan
from benchmarks.penalties.count import convolutions
from fastgan.acceleration.substitute import is_replacement
from fastgan.penalties import R1, R2
from tests.acceleration.zoo import ZOO, assert_same, build, derivatives


@pytest.mark.parametrize("name", ZOO)
def test_every_derivative_of_an_accelerated_model_is_that_of_the_original(name, generator, pairs):
    model, original, x = build(name, generator)
    report = fastgan.accelerate(model)
    assert report.replaced
    # More than once: a power iteration and running statistics go on from call to call.
    for _ in range(2):
        assert_same(derivatives(model, x), derivatives(original, x))
    assert_same(model.state_dict(), original.state_dict())
    model.eval()
    original.eval()
    assert_same(derivatives(model, x), derivatives(original, x))
    with torch.no_grad():
        assert_same({"y": model(x)}, {"y": original(x)})


@pytest.mark.parametrize("name", ZOO)
def test_float32_and_autocast_give_the_original_dtypes_and_numbers(name, generator, pairs):
    model, original, x = build(name, generator, torch.float32)
    fastgan.accelerate(model)
    for autocast in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            y, expected = model(x), original(x)
        assert y.dtype == expected.dtype
        torch.testing.assert_close(y, expected, rtol=0.05 if autocast else 1e-4, atol=0.05 if autocast else 1e-5)


@pytest.mark.parametrize("name", ZOO)
def test_nothing_but_classes_changes_and_restore_is_exact(name, generator, pairs):
    model, original, x = build(name, generator)
    keys, tensors, text = list(model.state_dict()), list(model.parameters()), repr(model)
    fastgan.accelerate(model)
    assert list(model.state_dict()) == keys
    assert all(a is b for a, b in zip(model.parameters(), tensors, strict=True))
    assert_same(model.state_dict(), original.state_dict(), rtol=0)
    assert repr(model) == text
    for a, b in zip(model.modules(), original.modules(), strict=True):
        assert isinstance(a, type(b).__bases__[0] if parametrize.is_parametrized(b) else type(b))
        assert a.__dict__.keys() == b.__dict__.keys()
    kinds = [type(m) for m in model.modules()]
    again = fastgan.accelerate(model)
    assert [type(m) for m in model.modules()] == kinds
    assert all(row.reason == "already" for row in again.replaced if " + " not in row.path)
    fastgan.restore(model)
    assert [type(m) for m in model.modules()] == [type(m) for m in original.modules()]
    torch.manual_seed(0)
    y = model(x)
    torch.manual_seed(0)
    assert torch.equal(y, original(x))


@pytest.mark.parametrize("name", ZOO)
def test_copies_of_an_accelerated_model_work(name, generator, pairs):
    model, original, x = build(name, generator)
    fastgan.accelerate(model)
    model.eval(), original.eval()
    expected = derivatives(original, x)
    copied = copy.deepcopy(model)
    assert [type(m) for m in copied.modules()] == [type(m) for m in model.modules()]
    assert_same(derivatives(copied, x), expected)
    fastgan.restore(copied)
    assert any(is_replacement(type(m)) or parametrize.is_parametrized(m) for m in model.modules())
    if name in ("sngan", "hooked"):  # torch refuses the one, the other has lambdas
        return
    pickled = pickle.loads(pickle.dumps(model))
    assert_same(derivatives(pickled, x), expected)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert [type(m) for m in loaded.modules()] == [type(m) for m in model.modules()]
    assert_same(derivatives(loaded, x), expected)


@pytest.mark.parametrize("name", ["dcgan-critic", "resnet", "sngan"])
def test_an_optimiser_from_before_still_trains_it(name, generator, pairs):
    model, original, x = build(name, generator)
    optimisers = [torch.optim.Adam(m.parameters(), 1e-3) for m in (model, original)]
    fastgan.accelerate(model)
    for _ in range(3):
        for m, optimiser in zip((model, original), optimisers, strict=True):
            optimiser.zero_grad()
            m(x).square().mean().backward()
            optimiser.step()
    assert_same(model.state_dict(), original.state_dict())


@pytest.mark.parametrize("name", ["resnet", "grouped", "audio", "sngan"])
@pytest.mark.parametrize("method", ["one_pass", "double_backward"])
def test_critic_loss_of_an_accelerated_critic_is_that_of_the_original(name, method, generator, pairs):
    model, original, x = build(name, generator)
    if name == "audio":
        extra = nn.Sequential(nn.Flatten(), nn.Linear(22, 1)).double()
        model, original = nn.Sequential(model, extra), nn.Sequential(original, copy.deepcopy(extra))
    if name == "grouped":  # tanh is smooth
        model[5] = original[5] = nn.LeakyReLU(0.1)
    fake = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    fastgan.accelerate(model)
    found = []
    for critic in (model, original):
        critic.eval()
        total = fastgan.critic_loss(critic, x, fake, penalties=(R1(3.0), R2(2.0)), method=method)
        total.backward()
        assert total.method == method
        found.append(
            {"total": total.detach(), **{n: p.grad for n, p in critic.named_parameters() if p.grad is not None}}
        )
    assert_same(*found)


def test_a_grouped_critics_double_backward_makes_fewer_convolutions(generator, pairs):
    model, original, x = build("grouped", generator)
    counts = []
    fastgan.accelerate(model)
    for m in (model, original):
        counts.append(sum(convolutions(lambda m=m: derivatives(m, x))))
    assert counts[0] < counts[1]


def test_second_derivatives_carry_no_zeros(generator, pairs):
    """Three leaky ReLUs: the penalty's gradient asks the convolutions for the weights' part alone."""
    make = lambda: nn.Sequential(  # noqa: E731
        *(layer for _ in range(3) for layer in (nn.Conv2d(3, 3, 3, padding=1), nn.LeakyReLU(0.2, inplace=True)))
    )
    model = make()
    original = copy.deepcopy(model)
    fastgan.accelerate(model)
    counts = []
    for m in (model, original):
        x = torch.randn(2, 3, 6, 6, generator=generator, requires_grad=True)
        y = m(x)
        (g,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        penalty, parameters = g.square().sum(), list(m.parameters())
        counts.append(sum(convolutions(lambda value=penalty, of=parameters: value.backward(inputs=of))))
    assert counts[0] < counts[1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_functions_of_torch_that_need_torchs_own_operations_work(generator, pairs):
    model, original, x = build("dcgan-critic", generator)
    model.eval(), original.eval()
    fastgan.accelerate(model)
    loss = lambda m: lambda x: m(x[None]).sum()  # noqa: E731
    torch.testing.assert_close(
        torch.func.vmap(torch.func.grad(loss(model)))(x), torch.func.vmap(torch.func.grad(loss(original)))(x)
    )
    v = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    torch.testing.assert_close(torch.func.jvp(model, (x,), (v,)), torch.func.jvp(original, (x,), (v,)))
    torch.testing.assert_close(torch.jit.trace(model, x)(x), original(x))
    torch.testing.assert_close(torch.fx.symbolic_trace(model)(x), original(x))
    called = torch.func.functional_call(model, {n: p * 2 for n, p in model.named_parameters()}, x)
    torch.testing.assert_close(
        called, torch.func.functional_call(original, {n: p * 2 for n, p in original.named_parameters()}, x)
    )


def test_forward_mode_works(generator):
    model = nn.Sequential(nn.Conv1d(1, 2, 3), nn.Tanh(), nn.LeakyReLU(0.2)).double()
    original = copy.deepcopy(model)
    fastgan.accelerate(model)
    x, v = (torch.randn(2, 1, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    tangents = []
    for m in (model, original):
        with forward_ad.dual_level():
            tangents.append(forward_ad.unpack_dual(m(forward_ad.make_dual(x, v))).tangent)
    torch.testing.assert_close(*tangents)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_transposed_convolution_takes_an_output_size(n, generator):
    kinds = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
    layer = kinds[n](2, 3, 3, stride=2, padding=1)
    original = copy.deepcopy(layer)
    fastgan.accelerate(layer)
    x = torch.randn(2, 2, *[4] * n, generator=generator)
    for size in (None, [7] * n, [8] * n):
        assert torch.equal(layer(x, size), original(x, size))


def test_a_padding_mode_that_is_set_later_is_torchs(generator, pairs):
    net = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU())
    original = copy.deepcopy(net)
    fastgan.accelerate(net)
    net[0].padding_mode = original[0].padding_mode = "circular"
    x = torch.randn(2, 2, 5, 5, generator=generator)
    assert torch.equal(net(x), original(x))


def test_integers_and_other_tensors_go_to_torch():
    model = nn.Sequential(nn.ReLU())
    fastgan.accelerate(model)
    assert torch.equal(model(torch.tensor([-1, 2])), torch.tensor([0, 2]))
    tanh = nn.Tanh()
    fastgan.accelerate(tanh)
    assert tanh(torch.tensor(0.5)).shape == ()
    assert tanh(torch.tensor([1 + 1j])).is_complex()


@pytest.mark.parametrize("name", ["dcgan-critic", "mlp", "resnet"])
def test_torch_compile_of_an_accelerated_model_equals_eager(name, generator, pairs):
    model, original, x = build(name, generator)
    fastgan.accelerate(model)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    results = []
    for m in (compiled, original):
        point = x.clone().requires_grad_()
        y = m(point)
        results.append({"y": y.detach(), "x": torch.autograd.grad(y.square().sum(), point)[0]})
    assert_same(*results)


@pytest.mark.slow
def test_torch_compile_with_inductor(generator):
    model, original, x = build("dcgan-critic", generator, torch.float32)
    fastgan.accelerate(model)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True)
    results = []
    for m in (compiled, original):
        point = x.clone().requires_grad_()
        y = m(point)
        results.append({"y": y.detach(), "x": torch.autograd.grad(y.square().sum(), point)[0]})
    assert_same(*results, rtol=1e-4)


# --- at the kinks and far away ----------------------------------------------------------------------------------------

ACTIVATIONS = [
    nn.LeakyReLU(0.2), nn.LeakyReLU(-0.2), nn.LeakyReLU(0.2, True), nn.ReLU(), nn.ReLU(True), nn.Tanh(), nn.Sigmoid(),
    nn.ELU(), nn.SELU(), nn.SiLU(), nn.Softplus(), nn.Softplus(threshold=40), nn.PReLU(), nn.Hardtanh(), nn.ReLU6(),
]  # fmt: skip


@pytest.mark.parametrize("act", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("convolved", [False, True])
def test_an_activation_keeps_torchs_derivatives_at_kinks_and_extremes(act, dtype, convolved, pairs_in_one_pass):
    points = torch.tensor([0.0, -0.0, 1e-30, -1e-30, 1.0, -1.0, 6.0, 19.9, 20.0, 20.1, 39, 41, -50.0, 90.0, -90.0])
    points = torch.cat([points, torch.linspace(-5, 5, 201)]).to(dtype)
    act = copy.deepcopy(act).to(dtype)
    net = nn.Sequential(nn.Conv1d(1, 1, 1), act, nn.Conv1d(1, 1, 1)) if convolved else nn.Sequential(nn.Identity(), act)
    net = net.to(dtype)
    if convolved:  # of weight one and bias zero
        for module in (net[0], net[2]):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    original = copy.deepcopy(net)
    fastgan.accelerate(net)
    found = []
    for m in (net, original):
        x = points.clone().requires_grad_()
        y = m((x * 1).reshape(1, 1, -1))  # a copy: some work in place
        w = torch.linspace(0.5, 2, x.numel(), dtype=dtype).reshape(y.shape).requires_grad_()
        (dx,) = torch.autograd.grad(y, x, w, create_graph=True)
        (d2,) = torch.autograd.grad(dx.sum(), x, allow_unused=True) if dx.requires_grad else (None,)
        found.append([y.detach(), dx.detach(), torch.zeros_like(x) if d2 is None else d2])
    rounding = 8 * torch.finfo(dtype).eps
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=rounding, atol=rounding)
    with torch.no_grad():
        special = torch.tensor([[[float("inf"), -float("inf"), float("nan")]]], dtype=dtype)
        if not convolved:
            torch.testing.assert_close(net(special.clone()), original(special.clone()), equal_nan=True)
