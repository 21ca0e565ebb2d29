"""Layers with a filter in another dtype: it moves with them, but its taps are not rounded."""

import copy

import pytest
import torch

from fastgan.models import StyleGAN2Critic, StyleGAN2Generator
from fastgan.nn import Blur, Downsample, EqualizedConv2d, ModulatedConv2d, StyledConv, Upsample
from fastgan.nn.exact_filter import ExactFilter
from fastgan.ops import setup_filter

TAPS = (1, 2, 5, 2)  # hundredths, which no binary fraction is
DTYPES = [torch.float16, torch.bfloat16, torch.float64]
LAYERS = {
    "blur": lambda: Blur(TAPS),
    "upsample": lambda: Upsample(TAPS),
    "downsample": lambda: Downsample(TAPS),
    "up": lambda: EqualizedConv2d(3, 4, 3, act="lrelu", up=2, resample_filter=TAPS),
    "down": lambda: EqualizedConv2d(3, 4, 3, act="lrelu", down=2, resample_filter=TAPS),
    "modulated": lambda: ModulatedConv2d(3, 4, 3, 5, up=2, resample_filter=TAPS),
    "styled": lambda: StyledConv(3, 4, 5, (8, 12), up=2, resample_filter=TAPS),
}


@pytest.fixture(params=LAYERS)
def layer(request, generator):
    return LAYERS[request.param]()


def filter_of(layer):
    return getattr(layer, layer.filter_name)


def inputs(layer, dtype, generator, size=(4, 6)):
    x = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)
    w = 0.1 * torch.randn(2, 5, generator=generator, dtype=torch.float64)  # styles around 1
    return [t.to(dtype).requires_grad_() for t in ([x, w] if isinstance(layer, ModulatedConv2d) else [x])]


@pytest.mark.parametrize("dtype", DTYPES)
def test_its_taps_are_not_rounded(layer, dtype, generator):
    converted = layer.to(dtype)
    assert torch.equal(filter_of(converted), setup_filter(TAPS))
    assert filter_of(converted).dtype == torch.float32
    assert {p.dtype for p in converted.parameters()} <= {dtype}
    assert torch.equal(filter_of(converted.half().float()), setup_filter(TAPS))
    given = inputs(layer, dtype, generator)
    y = converted.to(dtype)(*given)
    assert y.dtype == dtype
    y.sum().backward()
    assert all(t.grad is not None and t.grad.dtype == dtype for t in [*given, *converted.parameters()])


def test_it_moves_to_the_device(layer):
    moved = layer.to("meta", torch.float16)
    assert filter_of(moved).device.type == "meta"
    assert filter_of(moved).dtype == torch.float32


def test_a_layer_without_one_has_none():
    assert EqualizedConv2d(3, 4, 3).half().resample_filter is None
    assert ModulatedConv2d(3, 4, 3, 5).half().resample_filter is None


def test_two_derivatives_in_float64(layer, generator):
    layer.double()
    if hasattr(layer, "act"):
        layer.act = "swish"  # without a kink that finite differences would cross
    given = inputs(layer, torch.float64, generator, size=(2, 3))
    kwargs = {}
    if isinstance(layer, StyledConv):
        layer.noise_const = layer.noise_const[:4, :6]
        kwargs["noise"] = "const"
    assert torch.autograd.gradcheck(lambda *t: layer(*t, **kwargs), given)
    assert torch.autograd.gradgradcheck(lambda *t: layer(*t, **kwargs), given)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_whole_stylegan2_in_another_dtype(dtype, generator):
    """Forward and backward, and images as from a network in float64 with the same rounded weights."""
    small = {"width": 64, "max_width": 8}
    network = StyleGAN2Generator(16, z_dim=6, w_dim=6, mapping_layers=2, mixing_probability=0.0, **small)
    critic = StyleGAN2Critic(16, **small)
    filters = [m for n in (network, critic) for m in n.modules() if isinstance(m, ExactFilter)]
    filters = [m for m in filters if m.resample_filter is not None]
    assert len(filters) == 2 + 1 + 2 * 2
    for module in filters:
        module.resample_filter = setup_filter(TAPS)
    network.to(dtype)
    critic.to(dtype)
    assert all(torch.equal(m.resample_filter, setup_filter(TAPS)) for m in filters)
    z = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    images = network(z.to(dtype), noise="const")
    logits = critic(images)
    logits.sum().backward()
    assert images.dtype == logits.dtype == dtype
    for parameter in (*network.parameters(), *critic.parameters()):
        assert parameter.grad.dtype == dtype
        assert parameter.grad.isfinite().all()
    # The gradients of a half network may differ by a sign at a kink, its images by rounding alone.
    expected = copy.deepcopy(network).double()(z.to(dtype), noise="const")
    assert (images.double() - expected).norm() <= 10 * torch.finfo(dtype).eps * expected.norm()
