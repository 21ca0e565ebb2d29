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
    for _ in range(3):
        y = F.interpolate(x, scale_factor=0.5, mode="bilinear")
        assert torch.equal(halving.resampled(x, halve), y)
        x = torch.randn_like(x) * torch.finfo(dtype).max ** torch.empty_like(x).uniform_(-0.9, 0.9)
    kind = (x.shape, x.stride(), dtype, torch.get_num_threads())
    # Channels that do not fill vectors may be summed in the other order than those that do: such images are PyTorch's.
    assert halving._ORDERS[kind] is not None or shape[1] % 8


def halve(x):
    return F.interpolate(x, scale_factor=0.5, mode="bilinear")


@pytest.mark.parametrize("shape", [(1, 9, 10, 2), (8, 20, 16, 4), (2, 16, 8, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_order_is_not_that_of_the_first_images(shape, dtype):
    """Those may be black where PyTorch's kernel changes its order."""
    x = torch.zeros(shape, dtype=dtype)
    x[:, 0] = torch.randn_like(x[:, 0])
    for _ in range(20):
        assert torch.equal(halving.resampled(x, halve), halve(x))
        x = torch.randn_like(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_square_tells_the_order(dtype):
    images = halving._telling(torch.empty(2, 3, 4, 6, dtype=dtype))
    forwards, backwards = (halving.weighted(images, order) for order in halving._FROM_EITHER_END)
    assert (forwards != backwards).all()
    assert halving._order_of(images, lambda x: forwards) == (0, 1, 2, 3)
    assert halving._order_of(images, lambda x: torch.where(x[..., ::2, ::2] > 0, forwards + 1, 0)) is None


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
