"""Packing against a loop over samples and channels, and critics of packs against their definition."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from fastgan.losses import nonsaturating
from fastgan.nn import PackedCritic, pack, unpack
from fastgan.penalties import R1, critic_loss

SHAPES = [(6, 2), (6, 3, 5), (12, 2, 3, 4), (6, 1, 3, 3), (4, 2, 2, 3, 2)]


def by_hand(x, m):
    B, C = x.shape[:2]
    packs = np.zeros((B // m, m * C, *x.shape[2:]), x.dtype)
    for i in range(B):
        for c in range(C):
            packs[i // m, (i % m) * C + c] = x[i, c]
    return packs


def formats(x):
    yield x
    if x.ndim == 4:
        yield x.contiguous(memory_format=torch.channels_last)
    if x.ndim == 5:
        yield x.contiguous(memory_format=torch.channels_last_3d)
    yield x.transpose(0, 1).contiguous().transpose(0, 1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("m", [1, 2])
def test_samples_are_stacked_along_the_channels_and_come_back(shape, m, generator):
    for x in formats(torch.randn(shape, generator=generator)):
        packs = pack(x, m)
        np.testing.assert_array_equal(packs.numpy(), by_hand(x.numpy(), m))
        assert torch.equal(unpack(packs, m), x)


def test_other_dtypes_a_whole_batch_and_an_empty_one():
    x = torch.arange(24, dtype=torch.uint8).view(4, 3, 2)
    assert pack(x, 4).shape == (1, 12, 2)
    assert torch.equal(unpack(pack(x, 4), 4), x)
    assert pack(torch.zeros(0, 3, 4, 4), 2).shape == (0, 6, 4, 4)
    assert unpack(torch.zeros(0, 6, 4, 4), 2).shape == (0, 3, 4, 4)


def test_contiguous_samples_are_not_copied_and_channels_last_ones_stay_so(generator):
    x = torch.randn(4, 3, 5, 5, generator=generator)
    assert pack(x, 2).data_ptr() == x.data_ptr()
    last = x.contiguous(memory_format=torch.channels_last)
    packs = pack(last, 2)
    assert packs.is_contiguous(memory_format=torch.channels_last)
    assert unpack(packs, 2).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shape", [(4, 3), (4, 2, 2, 3)])
def test_derivatives(shape, generator):
    for x in formats(torch.randn(shape, generator=generator, dtype=torch.float64)):
        x.requires_grad_()
        assert torch.autograd.gradcheck(lambda x: pack(x, 2).sin(), x)
        assert torch.autograd.gradgradcheck(lambda x: pack(x, 2).sin(), x)
        assert torch.autograd.gradcheck(lambda x: unpack(pack(x, 4), 2).sin(), x)


@pytest.fixture
def packed(generator):
    layers = nn.Conv2d(6, 4, 3), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(4 * 4, 1)
    return PackedCritic(nn.Sequential(*layers).double(), 3)


def test_a_critic_sees_m_samples_and_gives_one_logit(packed, generator):
    x = torch.randn(6, 2, 4, 4, generator=generator, dtype=torch.float64)
    logits = packed(x)
    assert logits.shape == (2, 1)
    for i in range(2):
        together = torch.cat([x[3 * i], x[3 * i + 1], x[3 * i + 2]])[None]
        torch.testing.assert_close(logits[i : i + 1], packed.critic(together), rtol=1e-12, atol=1e-12)


def test_alike_samples_are_told_from_different_ones(generator):
    """A critic of one sample cannot: the mean of what it says on each is the same for both batches."""
    spread = nn.Module()
    spread.forward = lambda packs: (packs[:, 0] - packs[:, 1]).square()[:, None]
    different = torch.tensor([[-1.0], [1.0]]).repeat(8, 1)
    alike = torch.cat([torch.full((8, 1), -1.0), torch.full((8, 1), 1.0)])
    critic = PackedCritic(spread, 2)
    assert critic(different).mean() == 4
    assert critic(alike).mean() == 0


def test_losses_and_penalties_of_packs(packed, generator):
    """The gradient of a pack has one norm, over all of its samples."""
    real, fake = torch.randn(2, 6, 2, 4, 4, generator=generator, dtype=torch.float64)
    value = nonsaturating.critic(packed(real), packed(fake))
    total = critic_loss(packed.critic, pack(real, 3), pack(fake, 3), penalties=(R1(10.0),))
    torch.testing.assert_close(total.loss, value.detach())
    points = real.clone().requires_grad_()
    (g,) = torch.autograd.grad(packed(points).sum(), points)
    norms = [g[:3].square().sum().sqrt(), g[3:].square().sum().sqrt()]
    torch.testing.assert_close(total.gradient_norms["r1"], torch.stack(norms))


def test_penalties_of_a_packed_critic_are_those_of_each_samples_part(packed, generator):
    """Not what belongs to packs, but exactly what was asked for; in particular no pass that takes rows for samples."""
    real, fake = torch.randn(2, 6, 2, 4, 4, generator=generator, dtype=torch.float64)
    total = critic_loss(packed, real, fake, penalties=(R1(10.0),))
    total.backward()
    found = [p.grad.clone() for p in packed.parameters()]
    points = real.clone().requires_grad_()
    (g,) = torch.autograd.grad(packed(points).sum(), points, create_graph=True)
    penalty = 5 * g.square().sum() / 6
    loss = nonsaturating.critic(packed(real), packed(fake)) + penalty
    expected = torch.autograd.grad(loss, list(packed.parameters()))
    torch.testing.assert_close(total.penalties["r1"], penalty.detach())
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_compiles_in_one_graph(packed, generator):
    x = torch.randn(6, 2, 4, 4, generator=generator, dtype=torch.float64)
    compiled = torch.compile(packed, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), packed(x))


@pytest.mark.parametrize("m", [0, -1, 2.0, "2", None])
def test_degrees_that_cannot_be(m):
    message = re.escape(f"m is {m!r}, expected an integer of at least 1")
    for call in (lambda: pack(torch.zeros(4, 2), m), lambda: unpack(torch.zeros(4, 2), m)):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(ValueError, match="PackedCritic: " + message):
        PackedCritic(nn.Identity(), m)


def test_shapes_that_do_not_fit():
    with pytest.raises(
        ValueError, match=re.escape("pack: x has shape [5, 2, 3], expected a batch that is a multiple of")
    ):
        pack(torch.zeros(5, 2, 3), 2)
    with pytest.raises(
        ValueError, match=re.escape("unpack: x has shape [5, 3], expected channels that are a multiple")
    ):
        unpack(torch.zeros(5, 3), 2)
    for function in (pack, unpack):
        with pytest.raises(ValueError, match=re.escape("x has shape [4], expected [batch, channels, ...]")):
            function(torch.zeros(4), 2)
    with pytest.raises(ValueError, match="multiple of m = 2"):
        PackedCritic(nn.Identity(), 2)(torch.zeros(3, 1, 4, 4))
