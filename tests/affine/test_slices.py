"""Halving by slices is PyTorch's pooling bit for bit and its resampling to rounding; F gives the critic's own bits."""

import pytest
import torch
import torch.nn.functional as F

from fastgan.affine.rules import halving
from tests.affine.one_output import record
from tests.penalties.critics import CRITICS, batch, build

SHAPES = [(2, 3, 4, 6), (3, 64, 32, 32), (1, 5, 10, 2), (2, 17, 34, 18)]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_bits(shape, dtype, channels_last):
    x = torch.randn(shape, dtype=dtype)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    assert torch.equal(halving.pooled(x), F.avg_pool2d(x, 2))
    torch.testing.assert_close(halving.halved(x), F.avg_pool2d(x, 2))
    kind = (x.shape, x.stride(), dtype, torch.get_num_threads())
    for _ in range(3):  # the first call finds the order of the sums
        y = F.interpolate(x, scale_factor=0.5, mode="bilinear")
        assert torch.equal(halving.resampled(x, lambda y=y: y), y)
        x = torch.randn_like(x) * torch.finfo(dtype).max ** torch.empty_like(x).uniform_(-0.9, 0.9)
    # Channels that do not fill vectors are summed in the other order than those that do: such images are PyTorch's.
    assert kind in halving._ORDERS
    assert halving._ORDERS[kind] is not None or shape[1] % 8


def test_images_that_do_not_tell_the_order():
    x = torch.zeros(2, 3, 6, 2)
    kind = (x.shape, x.stride(), x.dtype, torch.get_num_threads())
    assert torch.equal(halving.resampled(x, lambda: F.avg_pool2d(x, 2)), torch.zeros(2, 3, 3, 1))
    assert kind not in halving._ORDERS
    x = torch.randn(2, 3, 6, 2)
    other = F.avg_pool2d(x, 2) * (1 + 2**-20)
    for _ in range(2):
        assert halving.resampled(x, lambda: other) is other
    del halving._ORDERS[kind]


def test_the_transpose():
    x, d = (
        torch.randn(2, 3, 4, 6, dtype=torch.float64, requires_grad=True),
        torch.randn(2, 3, 2, 3, dtype=torch.float64),
    )
    by_order = [lambda x, order=order: halving.weighted(x, order) for order in ((0, 1, 2, 3), (3, 2, 1, 0))]
    for f in (halving.pooled, halving.halved, *by_order):
        (g,) = torch.autograd.grad(f(x), x, d)
        for plain in (False, True):
            torch.testing.assert_close(halving.transposed(d, plain), g)
            torch.testing.assert_close(halving.transposed(d[0], plain), g[0])


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("kind", sorted(CRITICS.keys() - {"noise and dropout"}))
def test_recording_changes_no_bit_of_the_output(kind):
    critic = build(CRITICS[kind], torch.float32).eval()
    real, _, labels = batch(CRITICS[kind], dtype=torch.float32)
    rest = () if labels is None else (labels,)
    assert torch.equal(record(critic, real, *rest)[0], critic(real, *rest))


@pytest.mark.parametrize(
    "arrange",
    [
        lambda x: x,
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
        lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    ],
)
def test_a_pool_has_pytorch_s_strides(arrange, generator):
    """Noise that is made like it would be other noise."""
    x = arrange(torch.randn(2, 3, 4, 6, generator=generator))
    strides = []

    def network(x):
        y = F.avg_pool2d(x, 2)
        strides.append(y.stride())
        return y.sum((1, 2, 3))

    record(network, x)
    network(x)
    assert strides[0] == strides[1]
