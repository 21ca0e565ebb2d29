"""1x1 convolutions as products of matrices: where `convolution` takes them, and that they are right."""

import pytest
import torch
import torch.nn.functional as F

from fastgan.ops.convolution import conv1x1_backends, conv2d
from tests.ops.convolution_passes import Passes, passes


@pytest.fixture(autouse=True)
def _small_images_too(monkeypatch):
    monkeypatch.setattr(conv1x1_backends, "LEAST_ELEMENTS", 1)


OURS = {"1x1", "turned", "1x1 weight_grad"}


def draw(generator, dtype, *size):
    return torch.randn(size, generator=generator, dtype=dtype).requires_grad_()


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("most_at_once", [0, 1 << 16])
@pytest.mark.parametrize(("B", "C", "K", "H", "W"), [(3, 4, 5, 6, 7), (1, 1, 9, 1, 2), (2, 17, 1, 3, 3)])
def test_three_derivatives_are_pytorchs(most_at_once, B, C, K, H, W, generator, monkeypatch):
    monkeypatch.setattr(conv1x1_backends, "MOST_AT_ONCE", most_at_once)
    leaves = [draw(generator, torch.float64, *size) for size in ((B, C, H, W), (K, C, 1, 1), (K,))]
    cotangent = draw(generator, torch.float64, B, K, H, W)
    others = [torch.randn(leaf.shape, generator=generator, dtype=torch.float64) for leaf in leaves]
    results = []
    for function in (conv2d, F.conv2d):
        with Passes() as found:
            y = function(*leaves)
        assert found.calls == (["1x1"] if function is conv2d else ["torch"])
        first = torch.autograd.grad((y.sin() * cotangent).sum(), leaves, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), leaves, create_graph=True)
        third = torch.autograd.grad(second, leaves, others)
        results.append((y, *first, *second, *third))
    for found, truth in zip(*results, strict=True):
        assert (found - truth).abs().max() <= 1e-12 * truth.abs().max()


@pytest.mark.parametrize("most_at_once", [0, 1 << 16])
def test_float32_is_as_accurate_as_pytorchs(most_at_once, generator, monkeypatch):
    monkeypatch.setattr(conv1x1_backends, "MOST_AT_ONCE", most_at_once)
    x, w = draw(generator, torch.float32, 16, 96, 16, 16), draw(generator, torch.float32, 48, 96, 1, 1)
    wide = [t.detach().double().requires_grad_() for t in (x, w)]
    cotangent = torch.randn(16, 48, 16, 16, generator=generator)

    def results(function, *leaves):
        y = function(*leaves)
        return y, *torch.autograd.grad(y, leaves, cotangent.to(y.dtype))

    truths = results(F.conv2d, *wide)
    for ours, torchs, truth in zip(results(conv2d, x, w), results(F.conv2d, x, w), truths, strict=True):
        assert (ours - truth).square().mean() <= 4 * (torchs - truth).square().mean()


def test_convolution_takes_it_for_every_pass():
    x, w = torch.randn(2, 3, 4, 5), torch.randn(6, 3, 1, 1)
    assert set(passes(x, w)) == OURS
    assert set(passes(x.double(), w.double(), padding="same")) == OURS
    assert set(passes(x, w, backend="cpu")) == OURS
    with Passes() as found, torch.no_grad():
        conv2d(x, w)
    assert found.calls == ["1x1"]


@pytest.mark.parametrize(
    ("x", "w", "kwargs"),
    [
        ((2, 3, 4, 5), (6, 3, 1, 1), {"stride": 2}),
        ((2, 3, 4, 5), (6, 3, 1, 1), {"padding": 1}),
        ((2, 4, 4, 5), (6, 2, 1, 1), {"groups": 2}),
        ((2, 3, 4, 5), (6, 3, 1, 2), {}),
        ((0, 3, 4, 5), (6, 3, 1, 1), {}),
    ],
)
def test_other_convolutions_are_torchs(x, w, kwargs):
    assert set(passes(torch.randn(x), torch.randn(w), **kwargs)) == {"torch"}


def test_other_orders_backends_and_dtypes_are_torchs():
    x, w = torch.randn(2, 3, 4, 5), torch.randn(6, 3, 1, 1)
    assert set(passes(x.to(memory_format=torch.channels_last), w)) == {"torch"}
    assert set(passes(x, w, backend="reference")) == {"torch"}
    assert set(passes(x.bfloat16(), w.bfloat16())) == {"torch"}


def test_gradients_taken_inside_an_autocast_keep_their_dtype(generator):
    x, w = draw(generator, torch.float32, 2, 3, 4, 5), draw(generator, torch.float32, 6, 3, 1, 1)
    for most_at_once in (0, 1 << 16):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(conv1x1_backends, "MOST_AT_ONCE", most_at_once)
            y = conv2d(x, w)
            outside = torch.autograd.grad(y.square().sum(), (x, w), retain_graph=True)
            with torch.autocast("cpu", torch.bfloat16):
                inside = torch.autograd.grad(y.square().sum(), (x, w))
        for a, b in zip(inside, outside, strict=True):
            assert torch.equal(a, b)
    with torch.autocast("cpu", torch.bfloat16):
        assert conv2d(x, w).dtype == torch.bfloat16


def test_wrong_sizes_are_refused_in_torchs_words():
    with pytest.raises(RuntimeError, match="expected input"):
        conv2d(torch.randn(2, 4, 4, 5), torch.randn(6, 3, 1, 1))
    with pytest.raises(RuntimeError, match="expected bias to be 1-dimensional with 6"):
        conv2d(torch.randn(2, 3, 4, 5), torch.randn(6, 3, 1, 1), torch.zeros(3))
