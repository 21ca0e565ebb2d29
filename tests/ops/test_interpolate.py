"""interpolate: Philox from its paper in Python's integers, the formula in numpy, uniformity, seeds and errors."""

import numpy as np
import pytest
import torch

from fastgan import backend
from fastgan.ops import interpolate, interpolation_weights
from fastgan.ops._common.philox import uniform
from tests.ops.cases import INTERPRETING

BACKENDS = ["triton"] if INTERPRETING else ["reference", "cpu"]
SEEDS = [0, 1, -1, 2**32 + 1, 0x123456789ABCDEF0, -(2**63), 2**63 - 1]


def philox4x32(counter, key):
    """Salmon et al. 2011, section 3.3, ten rounds: the four words of a block."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        a, b = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (b >> 32) ^ c1 ^ k0, b & 0xFFFFFFFF, (a >> 32) ^ c3 ^ k1, a & 0xFFFFFFFF
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


def weights(seed: int, samples: int) -> torch.Tensor:
    """tl.rand(seed, i), from the oracle above."""
    key = seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF
    words = np.array([philox4x32((i, 0, 0, 0), key)[0] for i in range(samples)], dtype=np.uint32).view(np.int32)
    return torch.from_numpy(np.where(words < 0, -words - 1, words).astype(np.float32) * np.float32(4.6566127342e-10))


@pytest.mark.parametrize(
    ("counter", "key", "block"),
    [
        ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_the_oracle_passes_the_known_answers_of_random123(counter, key, block):
    assert [f"{word:08x}" for word in philox4x32(counter, key)] == block.split()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend_draws_the_same_weights_bit_for_bit(name, seed):
    n = 30 if name == "triton" else 300  # the interpreter takes long for each
    expected = weights(seed, n)
    assert torch.equal(interpolation_weights(seed, n), expected)
    one, zero = torch.ones(n, 2), torch.zeros(n, 2)
    with backend(name):
        assert torch.equal(interpolate(one, zero, seed), expected[:, None].expand(n, 2))
        assert torch.equal(interpolate(zero, one, seed), 1 - expected[:, None].expand(n, 2))


@pytest.mark.gpu
def test_a_gpu_draws_the_same_weights_bit_for_bit():
    one, zero = torch.ones(300, 2, device="cuda"), torch.zeros(300, 2, device="cuda")
    for seed in SEEDS:
        with backend("triton"):
            assert torch.equal(interpolate(one, zero, seed)[:, 0].cpu(), weights(seed, 300))
        assert torch.equal(interpolation_weights(seed, 300, "cuda").cpu(), weights(seed, 300))


def test_counters_beyond_32_bits_use_the_second_word():
    from fastgan.ops._common.philox import _philox

    i = 2**32 + 5
    assert _philox(torch.tensor([77]), torch.tensor([i])).item() == philox4x32((5, 1, 0, 0), (77, 0))[0]


def test_weights_are_uniform_and_seeds_independent(seed):
    stats = pytest.importorskip("scipy.stats")
    e = uniform(torch.tensor([seed]), 100_000).double()
    other = uniform(torch.tensor([seed + 1]), 100_000).double()
    assert e.min() >= 0
    assert e.max() < 1
    assert abs(e.mean() - 0.5) < 5 * (1 / 12 / 1e5) ** 0.5
    assert stats.kstest(e.numpy(), "uniform").pvalue > 1e-6
    assert abs(np.corrcoef(e, other)[0, 1]) < 5 / 1e5**0.5
    assert abs(np.corrcoef(e[1:], e[:-1])[0, 1]) < 5 / 1e5**0.5


@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", BACKENDS)
def test_is_the_formula_with_one_weight_per_sample(name, format, generator):
    x, y = (torch.randn(5, 3, 40, 41, generator=generator) for _ in range(2))  # several blocks per sample
    e = weights(12, 5).double().numpy()[:, None, None, None]
    expected = e * x.double().numpy() + (1 - e) * y.double().numpy()
    with backend(name):
        o = interpolate(x.to(memory_format=format).requires_grad_(), y, 12)
    np.testing.assert_allclose(o.detach(), expected, atol=1e-6)
    if name != "reference":
        assert o.is_contiguous(memory_format=format)
        (dx,) = torch.autograd.grad(o.sum(), o.grad_fn.next_functions[0][0].variable)
        np.testing.assert_allclose(dx, np.broadcast_to(e, x.shape), atol=1e-7)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_seed_tensor_is_read_at_each_call(name):
    x, y = torch.ones(6), torch.zeros(6)
    seed = torch.tensor(5)
    with backend(name):
        assert torch.equal(interpolate(x, y, seed), weights(5, 6))
        seed += 1
        assert torch.equal(interpolate(x, y, seed.view(1)), weights(6, 6))
    assert torch.equal(interpolation_weights(seed, 6), weights(6, 6))


@pytest.mark.skipif(INTERPRETING, reason="about autograd, on any backend")
def test_a_seed_that_changes_before_backward_is_noticed():
    x, seed = torch.ones(6, requires_grad=True), torch.tensor(5)
    with backend("cpu"):
        o = interpolate(x, torch.zeros(6), seed)
    seed += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        o.sum().backward()


@pytest.mark.skipif(INTERPRETING, reason="about autograd, on any backend")
def test_saves_the_seed_alone():
    saved = []
    x, y = (torch.randn(4, 100, requires_grad=True) for _ in range(2))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        interpolate(x, y, 3)
    assert saved == [1]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": [1.0]}, TypeError, "x is list, expected a floating-point tensor"),
        ({"y": torch.arange(3)}, TypeError, "y is torch.int64, expected a floating"),
        ({"y": torch.zeros(2, 3).half()}, TypeError, "y is torch.float16, expected torch.float32 like x"),
        ({"y": torch.zeros(3)}, ValueError, r"y has shape \[3\], expected \[2, 3\] like x"),
        ({"x": torch.tensor(1.0)}, ValueError, "x has no dimensions"),
        ({"y": torch.zeros(2, 3, device="meta")}, ValueError, "y is on meta, expected cpu like x"),
        ({"seed": 0.5}, TypeError, "seed is float, expected an int or an int64 tensor"),
        ({"seed": True}, TypeError, "seed is bool"),
        ({"seed": torch.tensor(1.0)}, TypeError, "seed is torch.float32"),
        ({"seed": torch.zeros(2, dtype=torch.int64)}, ValueError, r"seed has shape \[2\], expected one element"),
        ({"seed": torch.zeros(1, dtype=torch.int64, device="meta")}, ValueError, "seed is on meta, expected cpu"),
        ({"seed": 2**63}, ValueError, "seed is 9223372036854775808, expected"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        interpolate(**{"x": torch.zeros(2, 3), "y": torch.zeros(2, 3), "seed": 0, **arguments})


@pytest.mark.parametrize(
    "change",
    [lambda x: x.transpose(0, -1).contiguous().transpose(0, -1), lambda x: x[..., ::2], lambda x: x[:1].expand_as(x)],
)
def test_strides_are_those_of_pytorch(change, generator):
    """A critic with dropout draws its mask in the memory order of the points."""
    x, y = (change(torch.randn(3, 4, 6, generator=generator)) for _ in range(2))
    w = torch.rand(3, 1, 1, generator=generator)
    assert interpolate(x, y, torch.tensor([3])).stride() == (w * x + (1 - w) * y).stride()
