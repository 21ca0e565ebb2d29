"""minibatch_stddev: its formula as loops, how batches fall into groups, its memory and its layer."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from fastgan import backend
from fastgan.nn import MinibatchStdDev
from fastgan.ops import minibatch_stddev

BACKENDS = ["reference", "cpu"]


def statistic(members: list[np.ndarray]) -> float:
    """Of one feature of one group: `members` are its samples' values, in any order."""
    deviations = []
    for values in zip(*(member.flatten() for member in members), strict=True):
        mean = sum(values) / len(values)
        deviations.append(math.sqrt(sum((value - mean) ** 2 for value in values) / len(values) + 1e-8))
    return sum(deviations) / len(deviations)


def expected(x: np.ndarray, groups: list[list[int]], num_channels: int) -> np.ndarray:
    N, C, H, W = x.shape
    o = np.full((N, C + num_channels, H, W), np.nan)
    o[:, :C] = x
    c = C // num_channels
    for group in groups:
        for f in range(num_channels):
            y = statistic([x[i, f * c : (f + 1) * c] for i in group])
            for i in group:
                o[i, C + f] = y
    return o


GROUPS = {  # (N, group_size): the groups
    (8, 4): [[0, 2, 4, 6], [1, 3, 5, 7]],
    (4, 4): [[0, 1, 2, 3]],
    (3, 4): [[0, 1, 2]],
    (5, 4): [[0, 2, 4], [1, 3]],
    (7, 3): [[0, 3, 6], [1, 4], [2, 5]],
    (9, 4): [[0, 3, 6], [1, 4, 7], [2, 5, 8]],
    (6, 2): [[0, 3], [1, 4], [2, 5]],
    (5, 2): [[0, 2, 4], [1, 3]],
    (3, 2): [[0, 1, 2]],
    (6, None): [[0, 1, 2, 3, 4, 5]],
    (17, 8): [[0, 3, 6, 9, 12, 15], [1, 4, 7, 10, 13, 16], [2, 5, 8, 11, 14]],
    (3, 1): [[0], [1], [2]],
    (1, 4): [[0]],
    (1, None): [[0]],
}


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("sizes", "groups"), GROUPS.items(), ids=lambda value: str(value) if len(value) == 2 else "")
def test_is_the_formula(name, channels_last, sizes, groups, generator):
    N, group_size = sizes
    for C, num_channels in ((3, 1), (6, 2), (4, 4)):
        x = torch.randn(N, C, 2, 3, generator=generator, dtype=torch.float64)
        truth = expected(x.numpy(), groups, num_channels)
        if channels_last:
            x = x.to(memory_format=torch.channels_last)
        with backend(name):
            o = minibatch_stddev(x, group_size, num_channels)
        np.testing.assert_allclose(o.numpy(), truth, rtol=1e-12)


@pytest.mark.parametrize("name", BACKENDS)
def test_is_stylegan2s_for_multiples_of_the_group(name, generator):
    for N, G, C, F in ((8, 4, 6, 2), (12, 4, 4, 1), (6, 3, 3, 3), (64, 16, 2, 1)):
        x = torch.randn(N, C, 3, 2, generator=generator, dtype=torch.float64)
        y = x.numpy().reshape(G, N // G, F, C // F, 3, 2)
        y = y - y.mean(axis=0)
        y = np.sqrt((y**2).mean(axis=0) + 1e-8).mean(axis=(2, 3, 4))  # [N / G, F]
        y = np.tile(y.reshape(-1, F, 1, 1), (G, 1, 3, 2))
        with backend(name):
            o = minibatch_stddev(x, G, F)
        np.testing.assert_allclose(o.numpy(), np.concatenate([x.numpy(), y], axis=1), rtol=1e-12)


@pytest.mark.parametrize("name", BACKENDS)
def test_groups_differ_by_one_at_most_and_nobody_is_alone(name, generator):
    """Samples of a group share a number that no other group has."""
    for N in range(1, 34):
        x = torch.randn(N, 1, 1, 1, generator=generator, dtype=torch.float64)
        for group_size in (1, 2, 3, 4, 5, 8, N, N + 1, None):
            with backend(name):
                shared = minibatch_stddev(x, group_size)[:, 1].flatten().tolist()
            if group_size == 1:
                assert shared == [1e-4] * N
                continue
            sizes = [shared.count(value) for value in set(shared)]
            assert max(sizes) - min(sizes) <= 1
            assert min(sizes) > 1 or N == 1
            whole = N if group_size is None else group_size
            assert max(sizes) <= whole or (group_size == 2 and max(sizes) == 3)
            if N % whole == 0:
                assert sizes == [whole] * (N // whole)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_equal_samples_have_the_least_statistic_and_no_gradient(name, dtype, generator):
    """A collapsed generator. In float16 1e-8 is 0, and the derivative of the root of that infinite."""
    for N, group_size in ((4, 4), (8, 4), (16, 8), (40, None)):
        x = torch.randn(1, 6, 2, 3, generator=generator, dtype=torch.float64).to(dtype)
        x = x.repeat(N, 1, 1, 1).requires_grad_()
        with backend(name):
            o = minibatch_stddev(x, group_size)
            (dx,) = torch.autograd.grad(o, x, torch.ones_like(o), create_graph=True)
            (second,) = torch.autograd.grad(dx, x, torch.ones_like(dx))
        assert torch.equal(o[:, :6], x)
        torch.testing.assert_close(o[:, 6:], torch.full_like(o[:, 6:], 1e-4))
        if name == "cpu":  # where the mean of equal numbers is not rounded
            assert bool((dx == 1).all())
            assert bool((second == 0).all())
        assert bool(dx.isfinite().all())
        assert bool(second.isfinite().all())


@pytest.mark.parametrize("group_size", [2, 3, 4, 5, 8, 15, 16, 24])
def test_samples_that_nearly_agree_keep_their_deviation(group_size, generator):
    """x_i - x_0 is exact there. A deviation from the mean as float32 has it would be off by 4 of its thousandths."""
    x = 1 + 2.0**-16 * torch.rand(group_size, 3, 4, 4, generator=generator)
    found, truth = minibatch_stddev(x, None), minibatch_stddev(x.double(), None)
    torch.testing.assert_close(found[:, 3:].double(), truth[:, 3:], rtol=1e-6, atol=0)


@pytest.mark.parametrize("group_size", [2, 3, 4, 6, 8, 24])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_squares_beyond_float32_do_not_reach_the_derivatives(group_size, dtype, generator):
    x = (1e30 * torch.randn(24, 40, 2, 2, generator=generator)).to(dtype)
    g, v = (torch.randn(24, C, 2, 2, generator=generator).to(dtype) for C in (41, 40))
    g, v = 1e3 * g, 1e20 * v
    results = []
    for kind in (dtype, torch.float64):
        leaf, cotangent = (t.to(kind).requires_grad_() for t in (x, g))
        o = minibatch_stddev(leaf, group_size)
        (dx,) = torch.autograd.grad(o, leaf, cotangent, create_graph=True)
        results.append((o, dx, *torch.autograd.grad(dx, (cotangent, leaf), v.to(kind))))
    for found, truth in zip(*results, strict=True):
        error = (found.double() - truth).abs().max() / truth.abs().max()
        assert error <= 4 * torch.finfo(dtype).eps


def test_memory_format_is_that_of_the_input(generator):
    for x, expected_format in (
        (torch.randn(4, 6, 3, 2, generator=generator), torch.contiguous_format),
        (torch.randn(4, 3, 2, 6, generator=generator).permute(0, 3, 1, 2), torch.channels_last),
    ):
        x.requires_grad_()
        o = minibatch_stddev(x, 2, 3)
        (dx,) = torch.autograd.grad(o, x, torch.randn(o.shape, generator=generator), create_graph=True)
        (second,) = torch.autograd.grad(dx, x, torch.randn(dx.shape, generator=generator))
        for t in (o, dx, second):
            assert t.is_contiguous(memory_format=expected_format)


MEMORY = """
import torch
from fastgan.ops import minibatch_stddev

torch.set_num_threads(2)

def peak():  # kB
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

def ones(N, C, H, channels_last):
    return torch.ones(N, H, H, C).permute(0, 3, 1, 2) if channels_last else torch.ones(N, C, H, H)

def step(N, group_size, channels_last, H=16):
    x, v, g = (ones(N, C, H, channels_last) for C in (64, 64, 66))
    x.requires_grad_(), g.requires_grad_()
    before = peak()
    (dx,) = torch.autograd.grad(minibatch_stddev(x, group_size, 2), x, g, create_graph=True)
    torch.autograd.grad(dx, (g, x), v)
    return peak() - before

step(8, 4, False)
"""


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", MEMORY + code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()[-1]


@pytest.mark.parametrize("call", ["256, 4, False", "256, None, False", "255, 4, True"])
def test_no_memory_beside_the_results(call):
    """x is 16.8 MB; at the end the gradient and its two cotangents are there, 49,664 kB. Eager peaks above 220 MB."""
    assert int(run(f"print(step({call}))")) < 49_664 + 3_000


def test_repeated_steps_leak_nothing():
    """A tensor of 64 kB that stays with each step would be 19 MB."""
    code = "for _ in range(100): step(16, 4, False, 4)\nfirst = peak()\nfor _ in range(300): step(16, 4, False, 4)\n"
    assert int(run(f"{code}print(peak() - first)")) < 4_000


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("x",), TypeError, "x is str, expected a floating-point tensor"),
        ((torch.zeros(2, 3, 4, 4, dtype=torch.int32),), TypeError, "x is torch.int32"),
        ((torch.zeros(2, 3, 4),), ValueError, r"x has shape \[2, 3, 4\], expected \[batch, channels, height, width\]"),
        ((torch.zeros(2, 3, 4, 4), 0), ValueError, "group_size is 0, expected at least 1 or None"),
        ((torch.zeros(2, 3, 4, 4), 2.0), TypeError, r"group_size is 2\.0, expected an integer or None"),
        ((torch.zeros(2, 3, 4, 4), 2, 0), ValueError, "num_channels is 0, expected at least 1"),
        ((torch.zeros(2, 3, 4, 4), 2, None), TypeError, "num_channels is None, expected an integer"),
        (
            (torch.zeros(2, 3, 4, 4), 2, 2),
            ValueError,
            "x has 3 channels, expected a multiple of num_channels, 2",
        ),
        ((torch.zeros(2, 0, 4, 4),), ValueError, "x has 0 channels"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=f"minibatch_stddev: {message}"):
        minibatch_stddev(*arguments)


def test_layer_appends_the_statistic(generator):
    layer = MinibatchStdDev(3, 2)
    assert str(layer) == "MinibatchStdDev(group_size=3, num_channels=2)"
    assert not list(layer.parameters())
    x = torch.randn(7, 4, 3, 3, generator=generator)
    assert torch.equal(layer(x), minibatch_stddev(x, 3, 2))
    assert torch.equal(MinibatchStdDev()(x), minibatch_stddev(x, 4, 1))
    assert torch.equal(MinibatchStdDev(None)(x), minibatch_stddev(x, None))
    with pytest.raises(ValueError, match="MinibatchStdDev: group_size is 0, expected at least 1 or None"):
        MinibatchStdDev(0)
    with pytest.raises(TypeError, match="MinibatchStdDev: num_channels is '2', expected an integer"):
        MinibatchStdDev(4, "2")
