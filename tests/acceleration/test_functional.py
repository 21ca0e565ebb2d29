"""`with fastgan.accelerated():` for models that call torch's functions themselves."""

import copy

import pytest
import torch

import fastgan
from benchmarks.penalties.count import convolutions
from fastgan.penalties import R1
from tests.acceleration.zoo import ZOO, Functional, Residual, assert_same, build, derivatives


@pytest.fixture(params=[Functional, Residual])
def model(request, generator):
    torch.manual_seed(generator.initial_seed())
    return request.param().double()


@pytest.fixture
def x(model, generator):
    channels = 4 if isinstance(model, Functional) else 3
    return torch.randn(3, channels, 8, 8, generator=generator, dtype=torch.float64)


def test_every_derivative_is_that_of_outside(model, x):
    expected = derivatives(model, x)
    with fastgan.accelerated():
        found = derivatives(model, x)
    assert_same(found, expected)
    point = x.clone().requires_grad_()
    with fastgan.accelerated():
        y = model(point)
    (g,) = torch.autograd.grad(y.sum(), point, create_graph=True)
    parameters = list(model.parameters())
    found = torch.autograd.grad(g.square().sum(), parameters, allow_unused=True)
    (g,) = torch.autograd.grad(model(point).sum(), point, create_graph=True)
    expected = torch.autograd.grad(g.square().sum(), parameters, allow_unused=True)
    for p, a, b in zip(parameters, found, expected, strict=True):  # an exact zero may be None
        a, b = (torch.zeros_like(p) if t is None else t for t in (a, b))
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ZOO)
def test_models_of_layers_are_the_same_inside_too(name, generator):
    model, original, x = build(name, generator)
    with fastgan.accelerated():
        found = derivatives(model, x)
    assert_same(found, derivatives(original, x))
    fastgan.accelerate(model)
    with fastgan.accelerated():
        found = derivatives(model, x)
    assert_same(found, derivatives(original, x))


def test_the_double_backward_makes_fewer_convolutions(generator):
    model = Functional().double()
    x = torch.randn(2, 4, 8, 8, generator=generator, dtype=torch.float64)
    counts = []
    for mode in (fastgan.accelerated(), torch.enable_grad()):
        with mode:
            counts.append(sum(convolutions(lambda: derivatives(model, x))))
    assert counts[0] < counts[1]


@pytest.mark.parametrize("method", ["one_pass", "double_backward"])
def test_critic_loss_inside_is_that_of_outside(model, x, method):
    other = copy.deepcopy(model)
    squeeze = lambda m: lambda x: m(x).reshape(len(x))  # noqa: E731
    fake = x.flip(0) * 0.5
    fastgan.critic_loss(squeeze(other), x, fake, penalties=(R1(2.0),), method=method).backward()
    with fastgan.accelerated():
        fastgan.critic_loss(squeeze(model), x, fake, penalties=(R1(2.0),), method=method).backward()
    gradients = [{n: p.grad for n, p in m.named_parameters() if p.grad is not None} for m in (model, other)]
    assert_same(*gradients)


def test_torch_compile_inside(model, x):
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    results = []
    for m in (compiled, model):
        point = x.clone().requires_grad_()
        with fastgan.accelerated():
            y = m(point)
        results.append({"y": y.detach(), "x": torch.autograd.grad(y.square().sum(), point)[0]})
    assert_same(*results)
