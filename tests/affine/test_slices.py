"""Halving by slices is PyTorch's pooling bit for bit and its resampling to rounding; F gives the critic's own bits."""

import pytest
import torch
import torch.nn.functional as F

from fastgan.affine.rules.spatial import halved_back, pooled_by_slices, resampled_by_slices
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
    assert torch.equal(pooled_by_slices(x), F.avg_pool2d(x, 2))
    torch.testing.assert_close(resampled_by_slices(x), F.interpolate(x, scale_factor=0.5, mode="bilinear"))


def test_the_transpose():
    x, d = (
        torch.randn(2, 3, 4, 6, dtype=torch.float64, requires_grad=True),
        torch.randn(2, 3, 2, 3, dtype=torch.float64),
    )
    for f in (pooled_by_slices, resampled_by_slices):
        (g,) = torch.autograd.grad(f(x), x, d)
        for plain in (False, True):
            torch.testing.assert_close(halved_back(d, plain), g)
            torch.testing.assert_close(halved_back(d[0], plain), g[0])


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
