"""convolution: PyTorch's values and derivatives to the third order, and how little it computes for them."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import fastgan
from fastgan.ops.convolution import (
    BY_TORCH_FUNCTION,
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
    convolution,
)
from fastgan.ops.piecewise_linear import leaky_relu

aten = torch.ops.aten
OURS = {(1, False): conv1d, (2, False): conv2d, (3, False): conv3d, (1, True): conv_transpose1d,
        (2, True): conv_transpose2d, (3, True): conv_transpose3d}  # fmt: skip
TORCH = {(1, False): F.conv1d, (2, False): F.conv2d, (3, False): F.conv3d, (1, True): F.conv_transpose1d,
         (2, True): F.conv_transpose2d, (3, True): F.conv_transpose3d}  # fmt: skip

# name: (shape of x, shape of weight, bias, transposed, keywords)
CALLS = {
    "1d": ((2, 3, 6), (4, 3, 3), True, False, {}),
    "1d grouped": ((2, 4, 7), (6, 2, 3), False, False, {"groups": 2, "stride": 2, "padding": 1}),
    "1d same": ((2, 2, 5), (2, 2, 4), True, False, {"padding": "same"}),
    "1d transposed": ((2, 3, 4), (3, 2, 3), True, True, {"stride": 2, "output_padding": 1}),
    "2d": ((2, 3, 5, 4), (2, 3, 3, 3), True, False, {"padding": 1}),
    "2d 1x1": ((2, 3, 4, 3), (5, 3, 1, 1), False, False, {}),
    "2d grouped": ((2, 4, 5, 5), (6, 2, 3, 3), True, False, {"groups": 2, "padding": "valid"}),
    "2d depthwise": ((1, 3, 5, 5), (3, 1, 3, 3), True, False, {"groups": 3, "padding": (1, 0)}),
    "2d strided": ((2, 2, 7, 6), (3, 2, 4, 3), False, False, {"stride": [2, 3], "padding": 1}),
    "2d dilated": ((1, 2, 7, 7), (2, 2, 3, 3), True, False, {"dilation": 2, "padding": 2, "stride": (2,)}),
    "2d same": ((2, 2, 5, 4), (2, 2, 3, 2), True, False, {"padding": "same", "dilation": (1, 3)}),
    "2d one image": ((2, 5, 4), (3, 2, 3, 3), True, False, {"padding": 1}),
    "2d empty": ((0, 2, 5, 4), (3, 2, 3, 3), True, False, {"padding": 1}),
    "2d transposed": ((2, 3, 3, 4), (3, 2, 4, 4), True, True, {"stride": 2, "padding": 1}),
    "2d transposed, grouped": ((1, 4, 3, 3), (4, 2, 3, 3), True, True, {"groups": 2, "stride": 2, "output_padding": 1}),
    "2d transposed, dilated": ((1, 2, 3, 3), (2, 2, 2, 2), False, True, {"dilation": 3, "output_padding": (2, 1)}),
    "2d transposed, one image": ((2, 3, 3), (2, 2, 3, 3), True, True, {}),
    "3d": ((1, 2, 3, 4, 3), (2, 2, 2, 3, 2), True, False, {"padding": 1}),
    "3d grouped": ((1, 2, 3, 3, 3), (4, 1, 2, 2, 2), False, False, {"groups": 2, "stride": (1, 2, 1)}),
    "3d transposed": ((1, 2, 2, 2, 2), (2, 1, 2, 2, 2), True, True, {"stride": 2}),
}


def call(name, generator, dtype=torch.float64):
    """Our function, PyTorch's, and leaves to call them with."""
    x_shape, w_shape, with_bias, transposed, kwargs = CALLS[name]
    shapes = [x_shape, w_shape]
    if with_bias:
        shapes.append((w_shape[1] * kwargs.get("groups", 1) if transposed else w_shape[0],))
    inputs = [torch.randn(s, generator=generator, dtype=dtype).requires_grad_() for s in shapes]
    key = len(w_shape) - 2, transposed
    torchs = _pad_the_output if "output_padding" in kwargs else TORCH[key]
    return (lambda *ts: OURS[key](*ts, **kwargs)), (lambda *ts: torchs(*ts, **kwargs)), inputs


def _pad_the_output(x, w, bias=None, output_padding=0, **kwargs):
    """A transposed convolution with padding 0 whose third derivative, unlike that of PyTorch's, does not raise."""
    n = w.ndim - 2
    ends = (output_padding,) * n if isinstance(output_padding, int) else output_padding
    y = F.pad(TORCH[n, True](x, w, **kwargs), [size for end in reversed(ends) for size in (0, end)])
    return y if bias is None else y + bias.view(-1, *[1] * n)


class Counter(TorchDispatchMode):
    """Lists the convolutions that run: "forward", or which gradients of x, weight and bias, e.g. "x" or "w b"."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is aten.convolution.default:
            self.calls.append("forward")
        if function is aten.convolution_backward.default:
            self.calls.append(" ".join(letter for letter, asked in zip("xwb", args[-1], strict=True) if asked))
        return function(*args, **(kwargs or {}))


class Replaced(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        return BY_TORCH_FUNCTION.get(function, function)(*args, **(kwargs or {}))


# --- values and derivatives ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CALLS)
def test_gradcheck_and_gradgradcheck(name, generator):
    ours, _, inputs = call(name, generator)
    assert gradcheck(ours, inputs, fast_mode=True)
    assert gradgradcheck(ours, inputs, fast_mode=True)


def differentiate(function, inputs, weights):
    """y, its gradients, the gradients of a function of those, and the third derivatives."""
    y = function(*inputs)
    found = [y]
    value = (y * weights[0]).sum() + 0.1 * y.square().sum()
    for order in range(3):
        grads = torch.autograd.grad(value, inputs, create_graph=order < 2, allow_unused=True)
        found += grads
        value = sum(g.square().sum() for g in grads if g is not None)
    return found


@pytest.mark.parametrize("name", CALLS)
def test_three_derivatives_are_pytorchs(name, generator):
    ours, torchs, inputs = call(name, generator)
    weights = [torch.randn(torchs(*inputs).shape, generator=generator, dtype=torch.float64)]
    found, expected = (differentiate(function, inputs, weights) for function in (ours, torchs))
    assert type(ours(*inputs).grad_fn).__name__ in ("ConvolutionBackward", "SqueezeBackward1")
    for a, b in zip(found, expected, strict=True):
        if b is None:
            assert a is None or not a.any()
            continue
        error = (a - b).abs().max() / b.abs().max().clamp(min=1e-300) if b.numel() else 0
        assert error <= 1e-12
        assert a.shape == b.shape


def test_convolution_finds_the_number_of_dimensions_in_the_weight(generator):
    for name, (_, _, _, transposed, kwargs) in CALLS.items():
        _, torchs, inputs = call(name, generator)
        found = convolution(*inputs, transposed=transposed, **kwargs)
        torch.testing.assert_close(found, torchs(*inputs), rtol=1e-12, atol=1e-12)
        with fastgan.backend("reference"):
            found = convolution(*inputs, transposed=transposed, **kwargs)
        assert torch.equal(found, TORCH[inputs[1].ndim - 2, transposed](*inputs, **kwargs))


@pytest.mark.parametrize("chosen", range(3))
def test_any_subset_of_inputs_may_require_a_gradient(chosen, generator):
    ours, _, inputs = call("2d grouped", generator)
    expected = torch.autograd.grad(ours(*inputs).square().sum(), inputs)[chosen]
    alone = [t if i == chosen else t.detach() for i, t in enumerate(inputs)]
    (found,) = torch.autograd.grad(ours(*alone).square().sum(), [alone[chosen]])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        assert ours(*inputs).grad_fn is None


@pytest.mark.parametrize("transposed", [False, True])
def test_keeps_channels_last(transposed, generator):
    x = torch.randn(2, 4, 6, 5, generator=generator).to(memory_format=torch.channels_last).requires_grad_()
    w = torch.randn(4, 4, 3, 3, generator=generator).requires_grad_()
    y = OURS[2, transposed](x, w, padding=1)
    (dx,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    again, dw = torch.autograd.grad(dx.square().sum(), [x, w])
    for t in (y, dx, again):
        assert t.is_contiguous(memory_format=torch.channels_last)
    assert dw.shape == w.shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("inside", [False, True], ids=["gradient outside", "gradient inside"])
def test_autocast_casts_as_pytorchs_convolution(dtype, inside, generator):
    _, _, inputs = call("2d grouped", generator, dtype)
    results = []
    for function in (conv2d, F.conv2d):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = function(*inputs, groups=2)
            if inside:
                grads = torch.autograd.grad(y.float().square().sum(), inputs[:2], create_graph=True)
        if not inside:
            grads = torch.autograd.grad(y.float().square().sum(), inputs[:2], create_graph=True)
        results.append([y, *grads, *torch.autograd.grad(sum(g.square().sum() for g in grads), inputs)])
    assert results[0][0].dtype == (torch.float64 if dtype == torch.float64 else torch.bfloat16)
    for a, b in zip(*results, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.05 * b.abs().max().item())


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_gradient_inside_an_autocast_keeps_the_dtype_of_its_forward_pass(device, generator):
    ours, _, inputs = call("2d", generator, torch.float32)
    inputs = [t.detach().to(device).requires_grad_() for t in inputs]
    y = ours(*inputs)
    with torch.autocast(device, dtype=torch.bfloat16):  # on CUDA it would cast the convolutions of second derivatives
        (dx,) = torch.autograd.grad(y.square().sum(), inputs[:1], create_graph=True)
        dw, again = torch.autograd.grad(dx.square().sum(), [inputs[1], y], create_graph=True)
        (third,) = torch.autograd.grad(again.square().sum(), inputs[1:2])
    assert {t.dtype for t in (dx, dw, again, third)} == {torch.float32}


# --- how many convolutions ----------------------------------------------------------------------------------------


def test_a_gradient_to_the_input_alone_computes_no_other(generator):
    ours, _, inputs = call("2d", generator)
    for given, expected in [([0], ["x"]), ([1], ["w"]), ([0, 1], ["x", "w"]), ([2], [])]:
        with Counter() as counter:
            torch.autograd.grad(ours(*inputs).sum(), [inputs[i] for i in given], create_graph=True)
        assert counter.calls == ["forward", *expected]


def test_all_gradients_that_nobody_differentiates_take_one_call(generator):
    ours, _, inputs = call("2d", generator)
    with Counter() as counter:
        ours(*inputs).sum().backward()
        ours(*inputs).sum().backward(inputs=inputs[:1])
        ours(inputs[0].detach(), *inputs[1:]).sum().backward()
        ours(*inputs[:2], inputs[2].detach()).sum().backward()
    assert counter.calls[1::2] == ["x w b", "x", "w b", "x w"]


def test_the_weight_may_be_the_result_of_other_operations(generator):
    """As under spectral normalisation, where what follows asks for it through another node."""
    ours, _, inputs = call("2d", generator)
    weight = inputs[1] / inputs[1].norm()
    with Counter() as counter:
        (dx,) = torch.autograd.grad(ours(inputs[0], weight).sum(), inputs[:1], create_graph=True)
        torch.autograd.grad(dx.square().sum(), inputs[1:2])
    assert counter.calls == ["forward", "x", "w"]


def critic(groups, generator):
    """Two blocks of 1x1, grouped 3x3, 1x1 with leaky ReLU, and a linear head."""
    shapes = [(16, 3, 1, 1), (16, 16 // groups, 3, 3), (8, 16, 1, 1), (16, 8, 1, 1), (16, 16 // groups, 3, 3),
              (8, 16, 1, 1)]  # fmt: skip
    weights = [(0.3 * torch.randn(s, generator=generator, dtype=torch.float64)).requires_grad_() for s in shapes]
    head = torch.randn(8, 1, generator=generator, dtype=torch.float64, requires_grad=True)

    def function(x):
        for w in weights:
            x = F.conv2d(x, w, padding=w.shape[2] // 2, groups=groups if w.shape[2] == 3 else 1)
            x = leaky_relu(x, 0.2)
        return x.mean((2, 3)) @ head

    return function, [*weights, head]


def penalised(function, parameters, x):
    """The loss and its R1 penalty, differentiated together."""
    x = x.clone().requires_grad_()
    y = function(x)
    (gradient,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    (F.softplus(y).mean() + gradient.square().sum((1, 2, 3)).mean()).backward(inputs=parameters)
    found = [p.grad for p in parameters]
    for p in parameters:
        p.grad = None
    return found


def test_a_gradient_penalty_takes_as_many_convolutions_for_many_groups_as_for_one(generator):
    x = torch.randn(2, 3, 6, 6, generator=generator, dtype=torch.float64)
    for groups in (1, 2, 8, 16):
        function, parameters = critic(groups, generator)
        expected = penalised(function, parameters, x)
        with Replaced(), fastgan.backend("reference"), Counter() as counter:  # PyTorch's passes, which can be counted
            found = penalised(function, parameters, x)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
        # Six layers: y; the image's gradient; of the penalty, each layer's weight and the cotangent of the layer above;
        # of the loss, each layer's weight and, except for the image, input. Nothing else.
        assert sorted(counter.calls) == sorted(12 * ["forward"] + 6 * ["x"] + 6 * ["w"] + 5 * ["x w"] + ["w"])


# --- inside PyTorch's own machinery ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["1d", "2d same", "2d transposed, grouped"])
def test_torch_compile_fullgraph_forward_and_backward(name, generator):
    torch._dynamo.reset()
    ours, torchs, inputs = call(name, generator)
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad(torchs(*inputs).square().sum(), inputs)
    found = torch.autograd.grad(compiled(*inputs).square().sum(), inputs)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_torch_func_transforms_and_forward_mode_find_pytorchs_own(generator):
    ours, torchs, (x, w, b) = call("2d", generator)
    jacobians = [torch.func.jacrev(lambda t, f=f: f(t, w, b).sum((0, 2, 3)))(x) for f in (ours, torchs)]
    torch.testing.assert_close(*jacobians)
    tangents = [torch.func.jvp(lambda t, f=f: f(t, w, b), (x,), (x,))[1] for f in (ours, torchs)]
    torch.testing.assert_close(*tangents)


def test_the_table_names_functions_with_the_same_arguments(generator):
    x = torch.randn(1, 2, 4, 4, generator=generator, requires_grad=True)
    w = torch.randn(3, 2, 3, 3, generator=generator)
    layer = torch.nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect")
    up = torch.nn.ConvTranspose2d(2, 3, 3)
    with Replaced():
        results = [
            F.conv2d(input=x, weight=w, padding=(1, 1)),
            torch.conv2d(x, w, None, 1, 1),
            torch.convolution(input=x, weight=w, bias=None, stride=[1, 1], padding=[1, 1], dilation=[1, 1],
                              transposed=False, output_padding=[0, 0], groups=1),
            layer(x),
            up(x),
        ]  # fmt: skip
    assert [type(y.grad_fn).__name__ for y in results] == 5 * ["ConvolutionBackward"]
    for y in results[:3]:
        assert torch.equal(y, F.conv2d(x, w, padding=1))
    assert torch.equal(results[3], layer(x))
    assert torch.equal(results[4], up(x))


@pytest.mark.parametrize(
    "arguments",
    [
        {"padding": "sme"},
        {"padding": "same", "stride": 2},
        {"padding": (1, 1, 1)},
        {"stride": 0},
        {"groups": 2},
        {"groups": 0},
        {"groups": 0, "input": torch.zeros(1, 0, 5, 5)},
        {"bias": torch.zeros(4)},
        {"weight": torch.zeros(3, 2, 3)},
        {"weight": torch.zeros(3, 5, 3, 3)},
        {"weight": torch.zeros(3, 2, 3, 3, dtype=torch.float64)},
        {"input": torch.zeros(2, 5)},
        {"padding": 1.5},
        {"weight": torch.zeros(3, 2, 7, 7)},
    ],
)
def test_bad_arguments_are_refused_in_pytorchs_words(arguments):
    full = {"input": torch.zeros(1, 2, 5, 5, requires_grad=True), "weight": torch.zeros(3, 2, 3, 3), **arguments}
    with pytest.raises((RuntimeError, TypeError, ValueError)) as expected:
        F.conv2d(**full)
    with pytest.raises(type(expected.value)) as found:
        conv2d(**full)
    first, second = (str(error.value).split("\n")[0].split(" - got")[0] for error in (found, expected))
    assert first == second


def test_bad_arguments_of_convolution_are_named():
    x = torch.zeros(1, 2, 5, requires_grad=True)
    with pytest.raises(ValueError, match=r"weight has shape \[2, 2\], expected three to five dimensions"):
        convolution(x, torch.zeros(2, 2))
    with pytest.raises(ValueError, match="output_padding is 1, expected 0 where transposed is False"):
        convolution(x, torch.zeros(2, 2, 3), output_padding=1)
