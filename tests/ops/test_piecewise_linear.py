"""Piecewise linear functions: PyTorch's values and gradients, and no second derivative to the input."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck
from torch.overrides import TorchFunctionMode

from fastgan.ops import piecewise_linear as ours
from fastgan.ops.piecewise_linear import BY_TORCH_FUNCTION

FUNCTIONS = {
    "leaky_relu": (lambda x: ours.leaky_relu(x, 0.2), lambda x: F.leaky_relu(x, 0.2)),
    "leaky_relu default": (ours.leaky_relu, F.leaky_relu),
    "leaky_relu slope 0": (lambda x: ours.leaky_relu(x, 0), lambda x: F.leaky_relu(x, 0)),
    "leaky_relu slope 2": (lambda x: ours.leaky_relu(x, 2), lambda x: F.leaky_relu(x, 2)),
    "leaky_relu falling": (lambda x: ours.leaky_relu(x, -0.5), lambda x: F.leaky_relu(x, -0.5)),
    "relu": (ours.relu, F.relu),
    "hardtanh": (ours.hardtanh, F.hardtanh),
    "hardtanh bounds": (lambda x: ours.hardtanh(x, -0.3, 1.7), lambda x: F.hardtanh(x, -0.3, 1.7)),
    "relu6": (ours.relu6, F.relu6),
    "abs": (ours.abs, torch.abs),
}
SPECIAL = [0.0, -0.0, 1.0, -1.0, 6.0, 1.7, -0.3, float("inf"), -float("inf"), float("nan"), 1e-45, -1e-45]


class Replaced(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        return BY_TORCH_FUNCTION.get(function, function)(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients_are_pytorchs_at_the_kinks_too(name, dtype, generator):
    x = torch.cat([2 * torch.randn(200, generator=generator), torch.tensor(SPECIAL)]).to(dtype).requires_grad_()
    dy = torch.randn(x.shape, generator=generator).to(dtype).requires_grad_()
    u = torch.randn(x.shape, generator=generator).to(dtype)
    results = []
    for function in FUNCTIONS[name]:
        y = function(x)
        (plain,) = torch.autograd.grad(y, x, dy, retain_graph=True)
        (dx,) = torch.autograd.grad(y, x, dy, create_graph=True)
        (ddy,) = torch.autograd.grad(dx, dy, u)
        results.append([y, plain, dx, ddy])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a.nan_to_num(123.0), b.nan_to_num(123.0))
        assert torch.equal(a.isnan(), b.isnan())


class Below(torch.autograd.Function):
    """A layer that counts its backward passes, and is given zeros where there is no gradient."""

    passes = 0

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, dy):
        Below.passes += 1
        return dy


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gives_no_second_derivative_to_x(name):
    """None, not zeros: zeros would drag a whole backward pass through the network below."""
    x, dy = torch.randn(2, 3, requires_grad=True), torch.ones(2, 3, requires_grad=True)
    for function, passes in zip(FUNCTIONS[name], [0, 1], strict=True):
        h = Below.apply(x)
        (dh,) = torch.autograd.grad(function(h), h, dy, create_graph=True)
        Below.passes = 0
        to_x, to_dy = torch.autograd.grad(dh.square().sum(), [x, dy], allow_unused=True)
        assert Below.passes == passes  # if PyTorch's takes none either, it needs no replacement any more
        assert (to_x is None) == (passes == 0)
        assert to_dy is not None


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradcheck_and_gradgradcheck(name, generator):
    x = torch.randn(40, generator=generator, dtype=torch.float64)
    x = x[((x.abs().unsqueeze(1) - torch.tensor([0, 0.3, 1, 1.7, 6])).abs() > 0.01).all(1)].requires_grad_()
    function = FUNCTIONS[name][0]
    assert gradcheck(function, x)
    assert gradgradcheck(function, x)
    assert gradgradcheck(lambda t: function(t * t - 1.05).square(), x)


@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
def test_keeps_the_memory_format(format, generator):
    x = torch.randn(2, 4, 5, 3, generator=generator).to(memory_format=format).requires_grad_()
    y = ours.leaky_relu(x, 0.2)
    (dx,) = torch.autograd.grad(y.square().sum(), x)
    assert y.is_contiguous(memory_format=format)
    assert dx.is_contiguous(memory_format=format)


@pytest.mark.parametrize("name", ["leaky_relu", "relu"])
def test_in_place_updates_the_tensor_and_its_gradient(name, generator):
    x = torch.randn(3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    function = {"leaky_relu": lambda t: ours.leaky_relu(t, 0.2, inplace=True),
                "relu": lambda t: ours.relu(t, inplace=True)}[name]  # fmt: skip
    expected = FUNCTIONS[name][1](x * 2)
    h = x * 2
    pointer, version = h.data_ptr(), h._version
    y = function(h)
    assert y is h
    assert h.data_ptr() == pointer
    assert h._version > version
    assert torch.equal(h, expected)
    (dx,) = torch.autograd.grad(h.square().sum(), x, create_graph=True)
    torch.testing.assert_close(dx, torch.autograd.grad(expected.square().sum(), x)[0], rtol=1e-12, atol=0)
    (third,) = torch.autograd.grad(dx.sum(), x)
    assert torch.equal(third, torch.where(x > 0, 8.0, 8 * FUNCTIONS[name][1](torch.tensor(-1.0).double()) ** 2))


def test_in_place_on_a_part_of_a_tensor(generator):
    x = torch.randn(3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    results = []
    for function in (ours.relu, F.relu):
        h = x * 2
        function(h[:, 1:3], inplace=True)
        (dx,) = torch.autograd.grad(h.pow(3).sum(), x, create_graph=True)
        results.append([h, dx, *torch.autograd.grad(dx.square().sum(), x)])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_in_place_is_refused_where_pytorch_refuses_it():
    x = torch.randn(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        ours.relu(x, inplace=True)
    h = x * 2
    y = h.square()
    ours.relu(h, inplace=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


# --- PReLU ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 3, 2), (4, 3), (7,)])
@pytest.mark.parametrize("channels", [1, 3])
def test_prelu_has_pytorchs_derivatives(shape, channels, generator):
    if channels == 3 and len(shape) == 1:
        pytest.skip("a vector has no channels")
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    w = torch.randn(channels, generator=generator, dtype=torch.float64, requires_grad=True)
    for at_zero in (False, True):  # which is negative to PyTorch's first derivative and positive to its second
        x = torch.where(torch.arange(x.numel()).view(shape) % 4 == 0, -0.0, x) if at_zero else x
        x = torch.where(torch.arange(x.numel()).view(shape) % 4 == 1, 0.0, x) if at_zero else x
        x = x.detach().requires_grad_()
        results = []
        for function in (ours.prelu, F.prelu):
            dy = torch.linspace(-1, 2, x.numel(), dtype=x.dtype).view(shape).requires_grad_()
            y = function(x, w)
            plain = torch.autograd.grad(y, [x, w], dy, retain_graph=True)
            grads = torch.autograd.grad(y, [x, w], dy, create_graph=True)
            second = torch.autograd.grad(sum((g + 1).pow(3).sum() for g in grads), [x, w, dy], create_graph=True)
            third = torch.autograd.grad(sum((g + 1).pow(3).sum() for g in second), [x, w, dy])
            results.append([y, *plain, *grads, *second, *third])
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
            assert a.shape == b.shape


def test_prelu_gives_no_second_derivative_to_x():
    x, w = torch.randn(2, 3, requires_grad=True), torch.full((3,), 0.25, requires_grad=True)
    (dx,) = torch.autograd.grad(ours.prelu(x, w).sum(), x, create_graph=True)
    to_x, to_w = torch.autograd.grad(dx.square().sum(), [x, w], allow_unused=True)
    assert to_x is None
    assert to_w is not None


# --- inside PyTorch's own machinery -----------------------------------------------------------------------------


def test_the_table_names_functions_with_the_same_arguments(generator):
    x = torch.randn(2, 3, 4, generator=generator, requires_grad=True)
    weight = torch.tensor([0.3])
    calls = [
        lambda: torch.nn.LeakyReLU(0.2)(x), lambda: torch.nn.LeakyReLU(0.2, inplace=True)(x * 1),
        lambda: torch.nn.ReLU()(x), lambda: torch.nn.ReLU(inplace=True)(x * 1), lambda: torch.relu(x), lambda: x.relu(),
        lambda: (x * 1).relu_(), lambda: torch.relu_(x * 1), lambda: F.leaky_relu_(x * 1, 0.3), lambda: x.abs(),
        lambda: abs(x), lambda: torch.abs(x), lambda: torch.nn.Hardtanh()(x), lambda: torch.nn.ReLU6()(x),
        lambda: F.prelu(x, weight), lambda: torch.nn.PReLU()(x),
    ]  # fmt: skip
    for function in calls:
        with Replaced():
            y = function()
        assert type(y.grad_fn).__name__ in ("_PiecewiseBackward", "_PReLUBackward")
        assert torch.equal(y, function())


@pytest.mark.parametrize("name", ["leaky_relu", "abs"])
def test_torch_compile_fullgraph_forward_and_backward(name):
    torch._dynamo.reset()
    function, torchs = FUNCTIONS[name]
    x = torch.randn(3, 4, requires_grad=True)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    (found,) = torch.autograd.grad(compiled(x).square().sum(), x)
    assert torch.equal(found, torch.autograd.grad(torchs(x).square().sum(), x)[0])


def test_other_tensors_are_pytorchs_own():
    assert torch.equal(ours.relu(torch.tensor([-1, 2])), torch.tensor([0, 2]))
    assert torch.equal(ours.abs(torch.tensor([3 + 4j], requires_grad=True)), torch.tensor([5.0]))
    assert ours.relu(torch.randn(3)).grad_fn is None
    with pytest.raises(ValueError, match="min_val cannot be greater than max_val"):
        ours.hardtanh(torch.randn(3, requires_grad=True), 1, -1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x = torch.randn(3, requires_grad=True)
        assert ours.prelu(x, torch.ones(1)).dtype == F.prelu(x, torch.ones(1)).dtype
