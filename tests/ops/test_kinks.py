"""Exactly on the kinks: docs/kinks.md, to the second derivative, on every backend.

Two steps: the reference against PyTorch's own functions, every backend against the reference.
"""

import math

import pytest
import torch
import torch.nn.functional as F

from fastgan import backends
from fastgan.ops import (
    bias_act,
    bias_act_with_mask,
    frozen_bias_act_grad,
    gradient_norm_penalty,
    scaled_bias_act,
)
from fastgan.ops._common.activations import ACTIVATIONS, SELU_SCALE
from fastgan.ops.frozen_bias_act.checks import FREEZABLE
from fastgan.registry import OPS
from tests.ops.cases import INTERPRETING, compiled_cases, derivatives, draw_weights, leaves

CASES = [parameter for parameter in compiled_cases() if parameter.values[0].spec.kinks is not None]


def swish(z):
    """Its limits at infinity; F.silu elsewhere."""
    finite = F.silu(torch.where(z.isinf(), 0, z))
    return torch.where(z.isinf(), z.clamp(min=0), finite)


PYTORCH = {
    "linear": lambda z, alpha: z,
    "relu": lambda z, alpha: F.relu(z),
    "lrelu": lambda z, alpha: F.leaky_relu(z, alpha),
    "tanh": lambda z, alpha: torch.tanh(z),
    "sigmoid": lambda z, alpha: torch.sigmoid(z),
    "elu": lambda z, alpha: F.elu(z),
    "selu": lambda z, alpha: F.selu(z),
    "softplus": lambda z, alpha: F.softplus(z, threshold=50),
    "swish": lambda z, alpha: swish(z),
}


def activation(x, b, act, alpha, gain, clamp):
    """The sentence of `bias_act` in PyTorch's functions."""
    y = gain * PYTORCH[act](x if b is None else x + b, alpha)
    return y if clamp is None else F.hardtanh(y, -clamp, clamp)


def assert_same(found, expected, dtype, what):
    """To a few units in the last place of the largest number, as sums may cancel: sides of a kink differ by more."""
    numbers = torch.cat([value.flatten() for value in expected.values()])
    units = 8 if dtype == torch.bfloat16 else 32
    bound = units * torch.finfo(dtype).eps * numbers[numbers.isfinite()].abs().max().item()
    for name, value in expected.items():
        same = torch.allclose(found[name].double(), value.double(), rtol=0, atol=bound, equal_nan=False)
        assert same, f"{what}: {name}: {found[name].tolist()}, expected {value.tolist()}"


@pytest.mark.skipif(INTERPRETING, reason="the reference is plain PyTorch")
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_the_reference_is_pytorchs_own_to_the_second_derivative(act, generator):
    for sample in OPS["bias_act"].kinks(torch.device("cpu"), torch.float64):
        if sample.kwargs["act"] != act:
            continue
        weights = torch.randn(1, 1, 10, generator=generator).double(), torch.randn(10, generator=generator).double()
        found, expected = (
            derivatives(lambda ts, f=function, s=sample: f(*ts, **s.kwargs), leaves(sample), weights)
            for function in (OPS["bias_act"].reference, activation)
        )
        assert_same(found, expected, torch.float64, sample.label)


@pytest.mark.usefixtures("other_default_dtype")
@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["widest", "bfloat16"])
@pytest.mark.parametrize("case", CASES)
def test_every_backend_has_the_references_derivatives(case, dtype, generator):
    if INTERPRETING and dtype is not None:
        pytest.skip("the kernels compute in float32 whatever the dtype, and the interpreter takes long")
    dtype = case.widest if dtype is None else dtype
    with backends.backend(case.backend):  # which makes masks
        samples = list(case.spec.kinks(case.device, dtype))
    for sample in samples:
        weights = draw_weights(case, sample, generator)
        wide = sample.map(torch.Tensor.double)
        expected = derivatives(
            lambda ts, s=sample: case.spec.reference(*ts, **s.kwargs), leaves(wide), tuple(w.double() for w in weights)
        )
        found = derivatives(lambda ts, s=sample: case.call(ts, s.kwargs), leaves(sample), weights)
        assert_same(found, expected, dtype, sample.label)


@pytest.mark.parametrize("name", ["triton"] if INTERPRETING else ["reference", "cpu"])
@pytest.mark.parametrize("act", FREEZABLE)
def test_masks_freeze_pytorchs_slope(act, name, generator):
    x = torch.tensor([[-math.inf, -2, -1, -0.5, -0.0, 0, 0.5, 1, 2, math.inf]], dtype=torch.float32)
    dy = torch.randn(x.shape, generator=generator, dtype=torch.float32)
    for gain, clamp in ((1.0, None), (-2.0, 1.0), (1.0, 1.0), (1.0, 0.0), (0.5, math.inf)):
        kwargs = {"act": act, "alpha": 0.5 if act == "lrelu" else None, "gain": gain}
        point = x.clone().requires_grad_()
        (expected,) = torch.autograd.grad(activation(point, None, **kwargs, clamp=clamp), point, dy)
        with backends.backend(name):
            mask = bias_act_with_mask(x, None, **kwargs, clamp=clamp)[1]
            found, _ = frozen_bias_act_grad(dy, mask, **kwargs)
        assert torch.equal(found, expected), f"{kwargs}, clamp {clamp}"


@pytest.mark.parametrize("name", ["triton"] if INTERPRETING else ["reference", "cpu"])
@pytest.mark.parametrize("size", [1, 40])
@pytest.mark.parametrize("clamp", [None, 1.0])
def test_what_is_cut_off_stops_infinite_gradients_too(clamp, size, name):
    """As in PyTorch: the root of a relu has the gradient 0 where it is 0, not 0 times infinity."""
    x = torch.tensor([[-2.0, 0.0, 0.5, 3.0]], dtype=torch.float32).repeat_interleave(size, 0)
    dy = torch.tensor([[math.inf, math.nan, 1.0, -math.inf if clamp else 2.0]]).expand_as(x)
    point = x.clone().requires_grad_()
    y = F.relu(point) if clamp is None else F.hardtanh(F.relu(point), -clamp, clamp)
    (expected,) = torch.autograd.grad(y, point, dy)
    assert expected.isfinite().all()
    with backends.backend(name):
        ours = bias_act(point, act="relu", gain=1.0, clamp=clamp)
        scaled = scaled_bias_act(point[..., None], torch.ones_like(x), act="relu", gain=1.0, clamp=clamp)[..., 0]
        mask = bias_act_with_mask(x, None, act="relu", gain=1.0, clamp=clamp)[1]
        found = [torch.autograd.grad(y, point, dy)[0] for y in (ours, scaled)]
        found.append(frozen_bias_act_grad(dy.contiguous(), mask, act="relu", gain=1.0)[0])
    for gradient in found:
        assert torch.equal(gradient, expected)


@pytest.mark.skipif(INTERPRETING, reason="takes float64")
@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_a_clamp_that_is_no_round_number_is_reached(name):
    """selu(1) is its scale to the last digit, on every backend."""
    x = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
    with backends.backend(name):
        y = bias_act(x, act="selu", clamp=SELU_SCALE)
    assert y.item() == SELU_SCALE
    assert torch.autograd.grad(y, x)[0].item() == 0


@pytest.mark.skipif(INTERPRETING, reason="takes float64")
@pytest.mark.parametrize("name", ["reference", "cpu"])
@pytest.mark.parametrize("one_sided", [False, True])
def test_the_penalty_at_its_target_has_pytorchs_second_derivative(name, one_sided):
    g = torch.tensor([[3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    u = torch.tensor([[0.7, -0.2]], dtype=torch.float64)
    excess = g.norm(dim=1) - 5
    found = []
    with backends.backend(name):
        ours = gradient_norm_penalty(g, 2.0, 5.0, one_sided)
    for r in (ours, 2 * (F.relu(excess) if one_sided else excess).square()):
        (dg,) = torch.autograd.grad(r, g, create_graph=True)
        found.append((dg, torch.autograd.grad((dg * u).sum(), g)[0]))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert bool(found[0][1].any()) != one_sided


@pytest.mark.skipif(INTERPRETING, reason="takes float64")
@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_the_norm_at_zero_has_derivatives_of_zero(name):
    """PyTorch's first is 0 too, its second NaN."""
    for target in (None, 5.0, 0.0):
        g = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
        with backends.backend(name):
            r = gradient_norm_penalty(g, 2.0, target)
        (dg,) = torch.autograd.grad(r, g, create_graph=True)
        (second,) = torch.autograd.grad(dg.sum(), g)
        assert not dg.any()
        assert second.tolist() == ([[2.0, 2.0]] if target is None else [[0.0, 0.0]])


def test_every_op_says_whether_it_has_kinks():
    """Those with an activation, a norm or a distance have; a new op's author has thought of it."""
    smooth = {"attention", "conv3x3", "conv_stride2", "interpolate", "minibatch_stddev", "spectral_norm", "upfirdn2d"}
    assert {spec.name for spec in OPS.values() if spec.kinks is None} == smooth
