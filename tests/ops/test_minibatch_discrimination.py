"""minibatch_discrimination: its formula as loops, the memory it takes, and its layer."""

import math
import subprocess
import sys

import pytest
import torch

from fastgan import backend
from fastgan.nn import MinibatchDiscrimination
from fastgan.ops import minibatch_discrimination


@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_is_the_papers_formula(name, generator):
    m = torch.randn(5, 2, 3, generator=generator, dtype=torch.float64)
    with backend(name):
        o = minibatch_discrimination(m)
    for i in range(5):
        for k in range(2):
            expected = sum(math.exp(-sum(abs(m[i, k, c] - m[j, k, c]) for c in range(3))) for j in range(5) if j != i)
            assert o[i, k].item() == pytest.approx(float(expected), rel=1e-12)


def test_far_samples_are_not_lost_beside_the_sample_itself():
    """Summing j = i as well and subtracting 1 would round a similarity of 1e-9 away."""
    m = torch.tensor([[[0.0]], [[20.0]]])
    assert minibatch_discrimination(m)[0, 0].item() == pytest.approx(math.exp(-20), rel=1e-6)


MEMORY = """
import torch
from fastgan.ops import minibatch_discrimination

def peak():  # kB
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

def step(B):
    m = torch.randn(B, 64, 16, requires_grad=True)
    (g,) = torch.autograd.grad(minibatch_discrimination(m).sum(), m, create_graph=True)
    g.square().sum().backward()

step(8)
before = peak()
step(1024)
print(peak() - before)
"""


def test_memory_grows_with_the_batch_not_with_its_square():
    """B = 1024: the eager composition's differences alone are 4.3 GB; a copy of m is 4 MB."""
    result = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < 64_000


def test_repeated_steps_leak_nothing():
    code = (
        MEMORY + "\nfor _ in range(20): step(64)\nfirst = peak()\nfor _ in range(300): step(64)\nprint(peak() - first)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.split()[-1]) < 4_000


@pytest.mark.parametrize(
    ("m", "error", "message"),
    [
        (torch.zeros(2, 3), ValueError, r"m has shape \[2, 3\], expected \[batch, kernels, dims\]"),
        (torch.zeros(2, 3, 4, dtype=torch.int32), TypeError, "m is torch.int32"),
        ("m", TypeError, "m is str"),
    ],
)
def test_bad_arguments_are_named(m, error, message):
    with pytest.raises(error, match=message):
        minibatch_discrimination(m)


def test_layer_appends_similarities_and_trains(seed):
    torch.manual_seed(seed)
    layer = MinibatchDiscrimination(7, 5, 3)
    x = torch.randn(4, 7, requires_grad=True)
    y = layer(x)
    assert y.shape == (4, 12)
    assert torch.equal(y[:, :7], x)
    y.sum().backward()
    assert layer.weight.grad.abs().sum() > 0
    same = layer(torch.ones(4, 7))
    assert torch.allclose(same[:, 7:], torch.full((4, 5), 3.0)), "identical samples are at distance 0 of each other"
    with pytest.raises(ValueError, match=r"x has shape \[4, 6\], expected \[batch, 7\]"):
        layer(torch.zeros(4, 6))
    with pytest.raises(ValueError, match="kernel_dims is 0"):
        MinibatchDiscrimination(7, 5, 0)
