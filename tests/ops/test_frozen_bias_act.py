"""frozen_bias_act and its masks: the bits and the formula written again in numpy, the in-place variant, the errors."""

import math

import numpy as np
import pytest
import torch

from fastgan import backend
from fastgan.ops import (
    ActivationMask,
    bias_act,
    bias_act_with_mask,
    bias_act_with_mask_,
    frozen_bias_act,
    frozen_bias_act_grad,
)
from fastgan.ops.frozen_bias_act import backends as operators
from tests.ops.cases import INTERPRETING

BACKENDS = ["triton"] if INTERPRETING else ["reference", "cpu"]
# More than one block of every kernel, rows of every length, sizes that are no multiples of 8.
SHAPES = [(2, 3, 5), (3, 6, 7, 7), (5, 4, 31, 33), (4, 2, 40, 40), (3, 5), (9, 300), (2, 3, 64), (1, 1), (0, 4, 2)]
CLAMPS = {"lrelu": 0.65, "relu": 0.9, "linear": None}
pytestmark = pytest.mark.usefixtures("poisoned")


def widest(name: str) -> torch.dtype:
    return torch.float32 if name == "triton" else torch.float64


def arrays(shape, name, generator, dim=1, samples=None):
    """x, u, b and s in the backend's widest dtype, with exact zeros and NaN in x + b."""
    dtype = widest(name)
    x, u = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    b = torch.randn(shape[dim], generator=generator, dtype=torch.float64)
    s = torch.randn(samples or shape[0], generator=generator, dtype=torch.float64)
    return x.to(dtype), u.to(dtype), b.to(dtype), s.to(dtype)


def along(b, dim, ndim):
    return b.reshape([-1 if i == dim % ndim else 1 for i in range(ndim)])


def in_memory(values, order):
    return np.ascontiguousarray(np.transpose(values, order)).reshape(-1)


def expected_bits(z, y, order, clamp):
    planes = [in_memory(z > 0, order)]
    if clamp is not None:
        planes.append(in_memory(~(np.abs(y) >= clamp), order))
    return np.concatenate([np.packbits(plane, bitorder="little") for plane in planes])


@pytest.mark.parametrize("act", ["linear", "relu", "lrelu"])
@pytest.mark.parametrize("name", BACKENDS)
def test_bits_are_the_signs_in_memory_order_and_y_is_that_of_bias_act(name, act, generator):
    for shape in SHAPES:
        x, _, b, _ = arrays(shape, name, generator)
        for bias in (b, None):
            for clamp in (None, 0.7):
                with backend(name):
                    y, mask = bias_act_with_mask(x, bias, act=act, clamp=clamp)
                    assert torch.equal(y, bias_act(x, bias, act=act, clamp=clamp))
                z = x.numpy() + (0 if bias is None else along(bias.numpy(), 1, x.ndim))
                assert mask.order == tuple(range(x.ndim))
                assert mask.clamped == (clamp is not None)
                bound = None if clamp is None else np.asarray(clamp, y.numpy().dtype)
                np.testing.assert_array_equal(mask.bits, expected_bits(z, y.numpy(), mask.order, bound))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", BACKENDS)
def test_halves_round_and_clamp_as_bias_act_does(name, dtype, generator):
    """Bounds that the dtype rounds down, rounds up and holds; NaN and infinities; the bit is read off y itself."""
    for clamp in (0.65, 0.5, 0.0, float("inf"), 0.1):
        for gain in (0.9, -1.5, 0.0):
            x = (torch.randn(3, 5, 450, generator=generator) / 2).to(dtype)
            x[0, 0, :8] = torch.tensor([math.nan, math.inf, -math.inf, 0.0, -0.0, 6e4, -6e4, clamp])
            b = torch.zeros(5, dtype=dtype)
            with backend(name):
                y, mask = bias_act_with_mask(x, b, gain=gain, clamp=clamp)
                torch.testing.assert_close(y, bias_act(x, b, act="lrelu", gain=gain, clamp=clamp), rtol=0, atol=0,
                                           equal_nan=True)  # fmt: skip
            bound = torch.tensor(clamp).to(dtype).float().numpy()
            expected = expected_bits(x.float().numpy(), y.float().numpy(), (0, 1, 2), bound)
            np.testing.assert_array_equal(mask.bits, expected)


@pytest.mark.parametrize("name", BACKENDS)
def test_zero_and_nan_are_not_positive_and_nan_is_not_clamped(name):
    x = torch.tensor([[0.0, -0.0, math.nan, 1e-45, -1e-45, math.inf, -math.inf, 1.0, -1.0, 2.0]])
    with backend(name):
        _, mask = bias_act_with_mask(x, None, gain=1, clamp=1.0)
        _, summed = bias_act_with_mask(x, torch.tensor([0.0, 0, 0, 0, 0, 0, 0, -1.0, 1.0, -3.0]))
    positive, is_open = [0, 0, 0, 1, 0, 1, 0, 1, 0, 1], [1, 1, 1, 1, 1, 0, 0, 0, 1, 0]  # -1 becomes -0.2: open
    planes = [np.packbits(plane, bitorder="little") for plane in (positive, is_open)]
    np.testing.assert_array_equal(mask.bits, np.concatenate(planes))
    np.testing.assert_array_equal(summed.bits, np.packbits([0, 0, 0, 1, 0, 1, 0, 0, 0, 0], bitorder="little"))


def formula(u, b, s, mask, dim, slope, gain, clamp):
    """y, and p (0 where clamped), by loops over the elements in memory order."""
    order, shape = mask.order, u.shape
    bits = np.unpackbits(mask.bits.numpy(), bitorder="little")
    plane = 8 * ((u.numel() + 7) // 8)
    y, p = np.zeros(shape), np.zeros(shape)
    for e, seen in enumerate(np.ndindex(*[shape[d] for d in order])):
        index = tuple(seen[order.index(d)] for d in range(len(shape)))
        scale = 1.0 if s is None else s[e // (u.numel() // len(s))].item()
        side = 1 if bits[e] else -1
        if clamp is None or bits[plane + e]:
            p[index] = gain * (1 if bits[e] else slope)
            y[index] = p[index] * (u[index].item() + (0 if b is None else scale * b[index[dim]].item()))
        else:
            y[index] = scale * side * math.copysign(1, gain) * clamp
    return y, p


LAYOUTS = {
    "contiguous": ((4, 3, 5, 7), 1, lambda x: x),
    "channels-last": ((4, 3, 5, 7), 1, lambda x: x.to(memory_format=torch.channels_last)),
    "channels-last-3d": ((4, 3, 2, 3, 3), 1, lambda x: x.to(memory_format=torch.channels_last_3d)),
    "transposed": ((4, 3, 5, 7), 1, lambda x: x.transpose(1, 2).contiguous().transpose(1, 2)),
    "samples-innermost": ((4, 3, 5), 1, lambda x: x.movedim(0, -1).contiguous().movedim(-1, 0)),
    "last-dim": ((4, 2, 13), -1, lambda x: x),
    "first-dim": ((4, 9, 5), 0, lambda x: x),
    "first-dim-of-two": ((12, 9), 0, lambda x: x),
    "one-dim": ((36,), 0, lambda x: x),
    "long-rows": ((4, 2, 700), 1, lambda x: x),
    "features": ((40, 70), 1, lambda x: x),
}


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
@pytest.mark.parametrize("name", BACKENDS)
def test_is_the_formula_and_its_gradient(name, layout, generator):
    shape, dim, arrange = LAYOUTS[layout]
    tolerance = {"rtol": 1e-12, "atol": 1e-12} if widest(name) == torch.float64 else {"rtol": 1e-5, "atol": 1e-5}
    for samples in (shape[0] // 2,) if name == "triton" else (shape[0], shape[0] // 2, 1):
        for act, slope, gain in (("lrelu", 0.3, -1.4), ("relu", 0.0, 2.0), ("linear", 1.0, 0.8)):
            clamp, alpha = CLAMPS[act], 0.3 if act == "lrelu" else None
            x, u, b, s = arrays(shape, name, generator, dim, samples)
            keywords = {"dim": dim, "act": act, "alpha": alpha, "gain": gain}
            for bias, scale in ((b, s), (b, None), (None, s)):
                u.requires_grad_()
                b.requires_grad_()
                with backend(name):
                    with torch.no_grad():
                        _, mask = bias_act_with_mask(arrange(x), bias, clamp=clamp, **keywords)
                    found = frozen_bias_act(u, bias, scale, mask, clamp=clamp, **keywords)
                    dy = torch.randn(shape, generator=generator, dtype=x.dtype)
                    du, db = frozen_bias_act_grad(dy, mask, scale, **keywords)
                y, p = formula(u, bias, scale, mask, dim, slope, gain, clamp)
                np.testing.assert_allclose(found.detach(), y, **tolerance)
                np.testing.assert_allclose(du, p * dy.numpy(), **tolerance)
                ones = np.ones(1) if scale is None else scale.double().numpy()
                per_index = along(np.repeat(ones, shape[0] // len(ones)), 0, len(shape))
                others = tuple(i for i in range(len(shape)) if i != dim % len(shape))
                np.testing.assert_allclose(db, (per_index * p * dy.numpy()).sum(others), **tolerance)
                assert found.permute(mask.order).is_contiguous()
                assert du.permute(mask.order).is_contiguous()
                if bias is not None:
                    gradients = torch.autograd.grad(found, [u, b], dy)
                    torch.testing.assert_close(gradients[0], du)
                    np.testing.assert_allclose(gradients[1], db, **tolerance)


@pytest.mark.parametrize("act", ["linear", "relu", "lrelu"])
@pytest.mark.parametrize("name", BACKENDS)
def test_at_the_point_itself_it_is_bias_act_with_its_gradients(name, act, generator):
    for shape in [s for s in SHAPES if math.prod(s)]:
        x, _, b, _ = arrays(shape, name, generator)
        x.requires_grad_()
        b.requires_grad_()
        for clamp in (None, 0.8):
            with backend(name):
                with torch.no_grad():
                    mask = bias_act_with_mask(x, b, act=act, clamp=clamp)[1]
                y, frozen = (
                    bias_act(x, b, act=act, clamp=clamp),
                    frozen_bias_act(x, b, None, mask, act=act, clamp=clamp),
                )
            dy = torch.randn(shape, generator=generator, dtype=x.dtype)
            assert torch.equal(y, frozen)
            for found, truth in zip(*(torch.autograd.grad(f, [x, b], dy) for f in (frozen, y)), strict=True):
                # A sum in float32 is off by a part of its largest terms, however small it is itself.
                torch.testing.assert_close(found, truth, rtol=1e-5, atol=1e-12 if x.dtype == torch.float64 else 1e-4)


@pytest.mark.parametrize("name", BACKENDS)
def test_in_place_is_the_same_and_autograd_knows(name, generator):
    for arrange in (
        lambda x: x,
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x.transpose(0, 3).contiguous().transpose(0, 3),
        lambda x: torch.cat([x, x], 3)[..., ::2],
    ):
        x = arrange(torch.randn(4, 6, 20, 20, generator=generator))
        b = torch.randn(6, generator=generator)
        with backend(name):
            y, mask = bias_act_with_mask(x, b, clamp=0.9)
            version, pointer = x._version, x.data_ptr()
            found = bias_act_with_mask_(x, b, clamp=0.9)
        assert torch.equal(x, y)
        assert x._version > version
        assert x.data_ptr() == pointer
        assert torch.equal(found.bits, mask.bits)
        assert found[1:] == mask[1:]


def test_in_place_on_a_tensor_that_autograd_saved_is_noticed():
    w = torch.ones(3, 2, requires_grad=True)
    x = torch.randn(3, 2)
    product = (w * x).sum()
    bias_act_with_mask_(x)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


@pytest.mark.skipif(INTERPRETING, reason="one backend is enough")
@pytest.mark.parametrize("clamp", [None, 0.5])
def test_the_operator_that_works_in_place_passes_opcheck(clamp):
    x, b = torch.randn(4, 6, 5), torch.randn(6)
    torch.library.opcheck(operators.bias_act_with_mask_, (x, b, 1, "lrelu", 0.2, 1.0, clamp, "cpu"))


@pytest.mark.parametrize("name", BACKENDS)
def test_second_derivatives_have_no_constant_of_the_clamp(name, generator):
    """The gradient is linear in dy: its derivative at dy along v is its transpose applied to v, whatever the clamp."""
    x, u, b, s = arrays((4, 6, 9), name, generator)
    u.requires_grad_()
    b.requires_grad_()
    with backend(name):
        mask = bias_act_with_mask(x, b.detach(), clamp=0.3)[1]
        y = frozen_bias_act(u, b, s, mask, clamp=0.3)
        dy = torch.zeros_like(y, requires_grad=True)
        du, db = torch.autograd.grad(y, [u, b], dy, create_graph=True)
        (both,) = torch.autograd.grad([du, db], dy, [torch.zeros_like(du), torch.zeros_like(db)], retain_graph=True)
        (only_b,) = torch.autograd.grad(db, dy, torch.ones_like(db), retain_graph=True)
    assert not both.any()
    _, p = formula(u, None, None, mask, 1, 0.2, math.sqrt(2), 0.3)
    assert (p == 0).any()
    np.testing.assert_allclose(only_b, p * along(s.numpy(), 0, 3), rtol=1e-6)


def test_a_bias_gradient_over_a_million_elements_keeps_its_accuracy(generator):
    dy = torch.randn(8, 2, 300, 301, generator=generator)
    s = torch.tensor([1e3, -1e3, 1e-3, 1, 2, 3, 4, 5])
    mask = bias_act_with_mask(torch.ones_like(dy), act="relu", gain=1.0)[1]
    _, db = frozen_bias_act_grad(dy, mask, s, act="relu", gain=1.0)
    expected = (dy.double() * along(s.double(), 0, 4)).sum((0, 2, 3))
    torch.testing.assert_close(db, expected.float(), rtol=1e-6, atol=0)


def test_saves_the_mask_and_no_tensor_of_the_size_of_the_activations():
    saved = []
    x, b = torch.randn(4, 3, 50), torch.zeros(3, requires_grad=True)
    mask = bias_act_with_mask(x)[1]
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.nbytes) or t, lambda t: t):
        frozen_bias_act(x.requires_grad_(), b, torch.ones(4), mask)
    assert sum(saved) == mask.bits.nbytes + 16
    assert mask.bits.nbytes == x.numel() // 8


def test_the_bias_may_have_another_dtype_as_under_autocast():
    x, b = torch.randn(2, 3, 4).bfloat16(), torch.randn(3, requires_grad=True)
    mask = bias_act_with_mask(x, b.detach())[1]
    y = frozen_bias_act(x, b, torch.ones(2, dtype=torch.float64), mask)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert b.grad.dtype == torch.float32


MASK = ActivationMask(torch.zeros(1, dtype=torch.uint8), (0, 1), False)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"u": [1.0]}, TypeError, "u is list, expected a floating-point tensor"),
        ({"u": torch.tensor(1.0)}, ValueError, "u has no dimensions"),
        ({"b": torch.arange(3)}, TypeError, "b is torch.int64"),
        ({"b": torch.zeros(4)}, ValueError, r"b has shape \[4\], expected \[3\]"),
        ({"dim": 2}, ValueError, "dim is 2, expected a dimension of u, which has 2"),
        ({"act": "tanh"}, ValueError, "act is 'tanh', expected one of linear, relu, lrelu"),
        ({"act": "relu", "alpha": 0.2}, ValueError, "alpha is 0.2, but relu has no parameter"),
        ({"alpha": -0.1}, ValueError, "alpha is -0.1, expected a slope >= 0"),
        ({"clamp": -1.0}, ValueError, "clamp is -1.0, expected a bound >= 0 or None"),
        ({"clamp": 1.0}, ValueError, "clamp is 1.0, but the mask was made without one"),
        ({"s": [1.0]}, TypeError, "s is list"),
        ({"s": torch.zeros(3)}, ValueError, r"s has shape \[3\], expected \[samples\], a divisor of 2"),
        ({"s": torch.zeros(2, 1)}, ValueError, r"s has shape \[2, 1\]"),
        ({"s": torch.zeros(0)}, ValueError, r"s has shape \[0\]"),
        ({"s": torch.zeros(2, requires_grad=True)}, ValueError, "s requires a gradient"),
        ({"mask": MASK.bits}, TypeError, "mask is Tensor, expected an ActivationMask"),
        ({"mask": MASK._replace(order=(0, 1, 2))}, ValueError, "the mask is that of 3 dimensions, expected 2"),
        ({"mask": MASK._replace(clamped=True), "clamp": 1.0}, ValueError, r"uint8 \[1\], expected uint8 \[2\]"),
        ({"mask": MASK._replace(bits=torch.zeros(1))}, ValueError, r"bits of the mask are float32 \[1\]"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=f"frozen_bias_act: .*{message}"):
        frozen_bias_act(**{"u": torch.zeros(2, 3), "b": None, "s": None, "mask": MASK, **arguments})


def test_what_is_not_differentiable_says_so():
    x, b = torch.zeros(2, 3, requires_grad=True), torch.zeros(3, requires_grad=True)
    for function in (bias_act_with_mask, bias_act_with_mask_):
        with pytest.raises(RuntimeError, match=f"{function.__name__} is not differentiable, but x requires"):
            function(x)
        with pytest.raises(RuntimeError, match="but b requires a gradient"):
            function(x.detach(), b)
        with pytest.raises(ValueError, match=f"{function.__name__}: act is 'swish'"):
            function(x, act="swish")
    with pytest.raises(RuntimeError, match="frozen_bias_act_grad is not differentiable, but dy requires"):
        frozen_bias_act_grad(x, MASK)
    with torch.no_grad():
        mask = bias_act_with_mask(x, b)[1]
    assert frozen_bias_act_grad(x.detach(), mask, bias_grad=False)[1] is None
