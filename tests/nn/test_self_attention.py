"""SelfAttention2d against the published block, written with matrix products; its names, its memory, its errors."""

import pytest
import torch
import torch.nn.functional as F

import fastgan
from fastgan.nn import SelfAttention2d


def textbook(block, x):
    """The block as BigGAN's code states it: products of [B, channels, pixels] matrices."""
    B, C, H, W = x.shape

    def seen(convolution, pooled):
        y = torch.einsum("oi,bihw->bohw", convolution.weight[..., 0, 0], x)
        return (F.max_pool2d(y, 2) if pooled else y).flatten(2)

    theta, phi, g = seen(block.theta, False), seen(block.phi, block.pooled), seen(block.g, block.pooled)
    beta = torch.softmax(torch.einsum("bcn,bcm->bnm", theta, phi), -1)
    mixed = torch.einsum("bcm,bnm->bcn", g, beta).view(B, C // 2, H, W)
    return block.gamma * torch.einsum("oi,bihw->bohw", block.o.weight[..., 0, 0], mixed) + x


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("size", [(6, 4), (5, 7)])
def test_values_and_two_derivatives_are_those_of_the_published_block(pooled, size, generator):
    block = SelfAttention2d(16, pooled).double()
    with torch.no_grad():
        block.gamma.fill_(0.7)
    x = torch.randn(2, 16, *size, dtype=torch.float64, requires_grad=True)
    inputs = [x, *block.parameters()]
    results = []
    for function in (block, lambda x: textbook(block, x)):
        y = function(x)
        first = torch.autograd.grad(y.sin().sum(), inputs, create_graph=True)
        results.append([y, *first, *torch.autograd.grad(sum(g.square().sum() for g in first), inputs)])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_starts_as_the_identity_and_has_the_published_names(generator):
    block, x = SelfAttention2d(24), torch.randn(1, 24, 4, 4)
    assert torch.equal(block(x), x)
    shapes = {name: tuple(p.shape) for name, p in block.state_dict().items()}
    assert shapes == {
        "theta.weight": (3, 24, 1, 1), "phi.weight": (3, 24, 1, 1), "g.weight": (12, 24, 1, 1),
        "o.weight": (24, 12, 1, 1), "gamma": (),
    }  # fmt: skip


def test_takes_spectral_norms_channels_last_and_autocast(generator):
    block = fastgan.nn.spectral_norm_(SelfAttention2d(16))
    x = torch.randn(2, 16, 4, 4).to(memory_format=torch.channels_last)
    block(x).sum().backward()
    assert all(p.grad is not None for p in block.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        assert block(x).isfinite().all()


@pytest.mark.parametrize(("make", "message"), [
    (lambda: SelfAttention2d(4), "channels is 4, expected at least 8"),
    (lambda: SelfAttention2d(16.0), "channels is 16.0, expected an integer"),
    (lambda: SelfAttention2d(16)(torch.randn(1, 8, 4, 4)), r"x has shape \[1, 8, 4, 4\], expected \[B, 16, H, W\]"),
    (lambda: SelfAttention2d(16)(torch.ones(1, 16, 1, 4)), r"x has .* expected at least 2x2 pixels"),
])  # fmt: skip
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match="SelfAttention2d: " + message):
        make()
