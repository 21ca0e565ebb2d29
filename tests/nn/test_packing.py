"""Packing against a loop over samples and channels, and critics of packs against their definition."""

import re
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from fastgan.losses import nonsaturating
from fastgan.nn import PackedCritic, pack, unpack
from fastgan.ops import interpolation_weights
from fastgan.penalties import (
    R1,
    R2,
    WGANGP,
    critic_loss,
    differentiable_critic_loss,
    explain,
    generator_loss_from,
    gradient_penalty,
)

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


def by_hand_with_penalties(packed, real, fake, eps):
    """The loss with R1, R2 and WGAN-GP of whole packs of three, each pack's gradient put together sample by sample."""

    def squared_norms(points):
        points = points.detach().requires_grad_()
        (g,) = torch.autograd.grad(packed(points).sum(), points, create_graph=True)
        return torch.stack([g[i : i + 3].square().sum() for i in range(0, len(g), 3)])

    of_real, of_fake = squared_norms(real), squared_norms(fake)
    per_sample = eps.repeat_interleave(3).view(-1, 1, 1, 1)  # one weight for a pack
    between = squared_norms(per_sample * real + (1 - per_sample) * fake).sqrt()
    penalties = {"r1": 5 * of_real.mean(), "r2": of_fake.mean(), "wgan-gp": 10 * (between - 1).square().mean()}
    norms = {"r1": of_real.sqrt(), "r2": of_fake.sqrt(), "wgan-gp": between}
    return nonsaturating.critic(packed(real), packed(fake)), penalties, norms


@pytest.fixture
def batches(generator):
    real, fake = torch.randn(2, 6, 2, 4, 4, generator=generator, dtype=torch.float64)
    return real, 0.5 * fake + 0.2


PENALTIES = R1(10.0), R2(2.0), WGANGP(10.0)
WAYS = {
    "one pass": partial(critic_loss, penalties=PENALTIES, method="one_pass"),
    "double backward": partial(critic_loss, penalties=PENALTIES, method="double_backward"),
    "compiled": partial(critic_loss, penalties=PENALTIES, compile="aot_eager"),
    "differentiable": partial(differentiable_critic_loss, loss=nonsaturating, penalties=PENALTIES),
}


@pytest.mark.parametrize("way", WAYS)
def test_penalties_are_of_whole_packs(way, packed, batches):
    """The gradient of a pack has one norm, over all of its samples."""
    torch.manual_seed(3)
    found = WAYS[way](packed, *batches)
    found.backward()
    torch.manual_seed(3)
    eps = interpolation_weights(torch.randint(2**62, (1,)), 2, torch.device("cpu")).double()
    loss, penalties, norms = by_hand_with_penalties(packed, *batches, eps)
    expected = torch.autograd.grad(loss + sum(penalties.values()), list(packed.parameters()))
    torch.testing.assert_close([p.grad for p in packed.parameters()], list(expected), rtol=1e-8, atol=1e-11)
    torch.testing.assert_close(found.loss, loss.detach())
    torch.testing.assert_close(found.penalties, {name: value.detach() for name, value in penalties.items()})
    torch.testing.assert_close(found.gradient_norms, {n: v.detach() for n, v in norms.items()}, check_dtype=False)
    assert found.real_logits.shape == found.fake_logits.shape == (2, 1)


@pytest.mark.parametrize("method", ["one_pass", "double_backward"])
def test_a_penalty_alone_and_the_verdict_are_of_packs(method, packed, batches, capsys):
    found = gradient_penalty(packed, batches[0], R1(10.0), method=method)
    _, penalties, norms = by_hand_with_penalties(packed, *batches, torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(found.penalties["r1"], penalties["r1"].detach())
    torch.testing.assert_close(found.gradient_norms["r1"], norms["r1"].detach(), check_dtype=False)
    assert explain(packed, batches[0]).eligible


def test_the_generator_side_goes_back_to_each_sample(packed, batches):
    real, fake = batches
    samples = fake.clone().requires_grad_()
    generator_loss_from(critic_loss(packed, real, samples, penalties=(R2(2.0),))).backward()
    leaf = fake.clone().requires_grad_()
    (expected,) = torch.autograd.grad(nonsaturating.generator(packed(leaf), None), leaf)
    torch.testing.assert_close(samples.grad, expected)


def test_packs_of_packs_and_packs_in_wrappers(generator, batches):
    inner = nn.Sequential(nn.Flatten(), nn.Linear(192, 1)).double()
    expected = critic_loss(inner, *(pack(x, 6) for x in batches)).gradient_norms["r1"]
    wrapped = torch.compile(PackedCritic(PackedCritic(inner, 2), 3), backend="eager")
    found = critic_loss(wrapped, *batches).gradient_norms["r1"]
    assert found.shape == (1,)
    torch.testing.assert_close(found, expected)


def test_a_pack_has_no_class_and_no_remainder(packed, batches):
    labels = torch.zeros(6, dtype=torch.int64)
    calls = {
        "critic_loss": lambda **given: critic_loss(packed, *batches, **given),
        "gradient_penalty": lambda **given: gradient_penalty(packed, batches[0], R1(10.0), **given),
        "differentiable_critic_loss": lambda **given: WAYS["differentiable"](packed, *batches, **given),
        "explain": lambda **given: explain(packed, batches[0], **given),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=f"{name}: labels are given to a PackedCritic, expected None"):
            call(labels=labels)
    with pytest.raises(ValueError, match=re.escape("x has shape [5, 2, 4, 4], expected a batch that is a multiple")):
        critic_loss(packed, batches[0][:5], batches[1])


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
