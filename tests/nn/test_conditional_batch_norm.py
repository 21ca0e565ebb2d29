"""Conditional batch norm against a loop over samples in numpy, and against torch's with one class."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from fastgan.nn import ConditionalBatchNorm2d, spectral_norm


def by_hand(x, gains, biases, eps):
    """Each sample's channels by the batch's statistics, then by its own gain and bias."""
    y = np.empty_like(x)
    for i, c in np.ndindex(x.shape[:2]):
        values = x[:, c]
        y[i, c] = (x[i, c] - values.mean()) / np.sqrt(values.var() + eps) * (1 + gains[i, c]) + biases[i, c]
    return y


@pytest.fixture(params=["labels", "vectors"])
def case(request, generator):
    """(layer, its condition, the table or product of each sample's gain and of its bias)."""
    if request.param == "labels":
        layer = ConditionalBatchNorm2d(3, num_classes=4).double()
        c = torch.tensor([2, 0, 2, 3, 1])
    else:
        layer = ConditionalBatchNorm2d(3, embedding_dim=6).double()
        c = torch.randn(5, 6, dtype=torch.float64)
    with torch.no_grad():
        for p in layer.parameters():
            p.normal_()
    gain, bias = (m.weight.detach().numpy() for m in (layer.gain, layer.bias))
    if request.param == "labels":
        return layer, c, gain[c.numpy()], bias[c.numpy()]
    return layer, c, c.numpy() @ gain.T, c.numpy() @ bias.T


def test_each_sample_has_the_gain_and_bias_of_its_condition(case, generator):
    layer, c, gains, biases = case
    x = torch.randn(5, 3, 4, 2, dtype=torch.float64) * 2 + 1
    expected = by_hand(x.numpy(), gains, biases, 1e-5)
    np.testing.assert_allclose(layer(x, c).detach().numpy(), expected, rtol=1e-10, atol=1e-11)


def test_running_statistics_are_torchs(case, generator):
    layer, c, gains, biases = case
    plain = nn.BatchNorm2d(3, affine=False).double()
    for _ in range(3):
        x = torch.randn(5, 3, 4, 2, dtype=torch.float64) * 2 + 1
        layer(x, c), plain(x)
    for name, value in plain.state_dict().items():
        assert torch.equal(layer.state_dict()[f"norm.{name}"], value)
    layer.eval(), plain.eval()
    gains, biases = (torch.from_numpy(t)[:, :, None, None] for t in (gains, biases))
    torch.testing.assert_close(layer(x, c), plain(x) * (1 + gains) + biases, rtol=1e-12, atol=1e-12)


def test_one_class_is_batch_norm(generator):
    """With all derivatives to the second."""
    layer, plain = ConditionalBatchNorm2d(3, num_classes=1).double(), nn.BatchNorm2d(3).double()
    with torch.no_grad():
        plain.weight.normal_(), plain.bias.normal_()
        layer.gain.weight.copy_(plain.weight - 1), layer.bias.weight.copy_(plain.bias)
    x = torch.randn(4, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    direction = torch.randn_like(x)

    def derivatives(y, weight, bias):
        first = torch.autograd.grad((y * direction).sum(), (x, weight, bias), create_graph=True)
        second = torch.autograd.grad(first[0].square().sum(), (x, weight))
        return [y, *(t.view(-1) for t in (*first, *second))]

    ours = derivatives(layer(x, torch.zeros(4, dtype=torch.long)), layer.gain.weight, layer.bias.weight)
    for a, b in zip(ours, derivatives(plain(x), plain.weight, plain.bias), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)


def test_at_first_it_does_nothing_but_normalise(generator):
    x = torch.randn(6, 3, 4, 4)
    plain = nn.BatchNorm2d(3, affine=False)(x)
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    assert torch.equal(ConditionalBatchNorm2d(3, num_classes=5)(x, labels), plain)
    # Linear ones start near it: the gain is 1 plus 64 terms of deviation 0.02 each, at most 8 deviations of 0.16.
    layer = ConditionalBatchNorm2d(3, embedding_dim=64)
    y = layer(x, torch.ones(6, 64))
    assert ((y - plain).abs() <= 8 * 0.16 * (plain.abs() + 1)).all()
    std = ConditionalBatchNorm2d(100, embedding_dim=1000).gain.weight.std().item()
    assert std == pytest.approx(0.02, rel=8 / (2 * 10**5) ** 0.5)


def test_a_spectral_norm_of_the_linear_layers_is_finite(generator):
    layer = ConditionalBatchNorm2d(3, embedding_dim=4)
    spectral_norm(layer.gain), spectral_norm(layer.bias)
    assert layer(torch.randn(4, 3, 2, 2), torch.randn(4, 4)).isfinite().all()


def test_derivatives(case, generator):
    layer, c, *_ = case
    layer.norm.eps = 0.1
    x = torch.randn(5, 3, 1, 2, dtype=torch.float64, requires_grad=True)

    def y(x, c, gain, bias):
        return torch.func.functional_call(layer, {"gain.weight": gain, "bias.weight": bias}, (x, c))

    if c.is_floating_point():
        c.requires_grad_()
    assert torch.autograd.gradcheck(y, (x, c, layer.gain.weight, layer.bias.weight))
    assert torch.autograd.gradgradcheck(y, (x, c, layer.gain.weight, layer.bias.weight))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype, generator):
    """float32 parameters beside half precision activations: means of 2,048 numbers near 8, computed in float32."""
    layer = ConditionalBatchNorm2d(3, num_classes=2)
    nn.init.normal_(layer.gain.weight), nn.init.normal_(layer.bias.weight)
    x, c = (torch.randn(8, 3, 16, 16) + 8).to(dtype), torch.arange(8) % 2
    y, exact = layer(x, c), layer(x.float(), c)
    assert y.dtype == dtype
    # Two roundings: of the normalised x, which the gain magnifies, and of the result.
    normalised, gain = layer.norm(x.float()).abs(), (1 + layer.gain(c)).abs()[:, :, None, None]
    allowed = torch.finfo(dtype).eps / 2 * (1.01 * normalised * gain + 1.01 * exact.abs()) + 1e-5
    assert ((y.float() - exact).abs() <= allowed).all()


def test_an_empty_batch():
    layer = ConditionalBatchNorm2d(3, num_classes=2).eval()
    assert layer(torch.zeros(0, 3, 4, 4), torch.zeros(0, dtype=torch.long)).shape == (0, 3, 4, 4)


def test_compiles_in_one_graph(case, generator):
    layer, c, *_ = case
    x = torch.randn(5, 3, 4, 2, dtype=torch.float64)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, c), layer(x, c))


def test_arguments():
    for change, message in (
        ({"num_features": 0, "num_classes": 2}, "num_features is 0, expected an integer of at least 1"),
        ({}, "num_classes is None and embedding_dim None, expected exactly one of them"),
        ({"num_classes": 2, "embedding_dim": 3}, "num_classes is 2 and embedding_dim 3, expected exactly one of them"),
        ({"num_classes": 0}, "num_classes is 0, expected an integer of at least 1"),
        ({"embedding_dim": 1.5}, "embedding_dim is 1.5, expected an integer of at least 1"),
    ):
        with pytest.raises(ValueError, match=re.escape(f"ConditionalBatchNorm2d: {message}")):
            ConditionalBatchNorm2d(**{"num_features": 3, **change})


def test_inputs():
    labelled, embedded = ConditionalBatchNorm2d(3, num_classes=2), ConditionalBatchNorm2d(3, embedding_dim=4)
    x, labels = torch.randn(2, 3, 4, 4), torch.zeros(2, dtype=torch.long)
    for layer, given, error, message in (
        (
            labelled,
            (torch.zeros(2, 4, 4, 4), labels),
            ValueError,
            "x has shape [2, 4, 4, 4], expected [batch, 3, height",
        ),
        (labelled, (torch.zeros(2, 3), labels), ValueError, "x has shape [2, 3], expected [batch, 3, height, width]"),
        (labelled, (x.long(), labels), TypeError, "x is torch.int64, expected a floating-point tensor"),
        (labelled, (x, labels.float()), TypeError, "c is torch.float32, expected labels, torch.int64 or torch.int32"),
        (labelled, (x, [0, 1]), TypeError, "c is list, expected labels"),
        (labelled, (x, labels[:1]), ValueError, "c has shape [1], expected [2]"),
        (labelled, (x, labels[:, None]), ValueError, "c has shape [2, 1], expected [2]"),
        (embedded, (x, torch.zeros(2, 5)), ValueError, "c has shape [2, 5], expected [2, 4]"),
        (embedded, (x, torch.zeros(1, 4)), ValueError, "c has shape [1, 4], expected [2, 4]"),
        (embedded, (x, labels), TypeError, "c is torch.int64, expected a floating-point tensor"),
    ):
        with pytest.raises(error, match=re.escape(message)):
            layer(*given)
    with pytest.raises(IndexError):
        labelled(x, labels + 2)
