"""Instance noise: its size, its schedule, and that penalties and checkpoints go through it."""

import copy

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

import fastgan
from fastgan.nn import InstanceNoise
from fastgan.penalties import R1


def test_it_is_gaussian_of_its_deviation_in_training_alone(generator):
    noise = InstanceNoise(0.3)
    x = torch.ones(400, 500)
    added = noise(x) - x
    # 200,000 draws: six standard errors of mean and deviation.
    assert added.mean().item() == pytest.approx(0, abs=6 * 0.3 / 200_000**0.5)
    assert added.std().item() == pytest.approx(0.3, abs=6 * 0.3 / 400_000**0.5)
    share = ((added.abs() < 0.3).double().mean()).item()
    assert share == pytest.approx(0.6827, abs=6 * (0.6827 * 0.3173 / 200_000) ** 0.5)
    assert not torch.equal(noise(x), noise(x))
    assert noise.eval()(x) is x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(0, 3), (1,), (2, 3, 4, 4)])
def test_dtype_and_shape_stay(dtype, shape):
    x = torch.zeros(shape, dtype=dtype)
    assert InstanceNoise(0.1)(x).shape == x.shape
    assert InstanceNoise(0.1)(x).dtype == dtype


def test_the_gradient_passes_unchanged(generator):
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 4, dtype=torch.float64)
    (slope,) = torch.autograd.grad((InstanceNoise(0.5)(x) * weight).sum(), x)
    assert torch.equal(slope, weight)


def test_it_is_annealed_linearly():
    noise = InstanceNoise(0.4, steps=8)
    found = []
    for step in (0, 2, 4, 8, 100):
        noise.anneal(step)
        found.append(noise.std.item())
    assert found == pytest.approx([0.4, 0.3, 0.2, 0, 0])
    x = torch.randn(5)
    assert torch.equal(noise(x), x)
    noise.anneal(0)
    assert noise.std.item() == pytest.approx(0.4)


def test_checkpoints_keep_where_it_is():
    noise, other = InstanceNoise(0.4, steps=8), InstanceNoise(0.4, steps=8)
    noise.anneal(6)
    other.load_state_dict(noise.state_dict())
    assert other.std == noise.std == copy.deepcopy(noise).std
    other.set_std(0.25)
    assert other.std.item() == 0.25


@pytest.mark.parametrize("method", ["one_pass", "double_backward"])
def test_penalties_go_through_it(method, generator):
    """In one pass too: noise is a constant that is added."""
    critic = nn.Sequential(InstanceNoise(0.5), nn.Linear(4, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1)).double()
    real, fake = torch.randn(2, 6, 4, dtype=torch.float64, generator=generator)
    torch.manual_seed(3)
    points = (real + 0.5 * torch.randn(6, 4, dtype=torch.float64)).requires_grad_()
    noisy = fake + 0.5 * torch.randn(6, 4, dtype=torch.float64)
    logits = critic[1:](points)
    (g,) = torch.autograd.grad(logits.sum(), points, create_graph=True)
    expected = fastgan.losses.hinge.critic(logits, critic[1:](noisy)) + 5 * g.square().sum(1).mean()
    truth = torch.autograd.grad(expected, list(critic.parameters()), allow_unused=True)
    fastgan.explain(critic, real)  # looks at it before, with draws of its own
    torch.manual_seed(3)
    total = fastgan.critic_loss(critic, real, fake, loss="hinge", penalties=(R1(10.0),), method=method)
    total.backward()
    torch.testing.assert_close(total.detach().as_subclass(torch.Tensor), expected.detach())
    for parameter, slope in zip(critic.parameters(), truth, strict=True):
        found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(found, torch.zeros_like(parameter) if slope is None else slope)


def test_annealing_does_not_compile_anew():
    noise = InstanceNoise(0.4, steps=8)
    count = CompileCounter()
    compiled = torch.compile(noise, backend=count, fullgraph=True)
    for step in range(4):
        noise.anneal(step)
        compiled(torch.zeros(3))
    assert count.frame_count == 1


def test_bad_arguments():
    for std in (-0.1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"InstanceNoise: std is {std}, expected a finite number >= 0"):
            InstanceNoise(std)
        with pytest.raises(ValueError, match="expected a finite number >= 0"):
            InstanceNoise(0.1).set_std(std)
    with pytest.raises(ValueError, match="InstanceNoise: steps is 0, expected an integer of at least 1"):
        InstanceNoise(steps=0)
    with pytest.raises(ValueError, match="InstanceNoise: steps is None, expected the number of steps"):
        InstanceNoise().anneal(3)
    with pytest.raises(ValueError, match="InstanceNoise: step is -1, expected at least 0"):
        InstanceNoise(steps=5).anneal(-1)
    with pytest.raises(TypeError, match=r"InstanceNoise: x is torch\.int64, expected a floating-point tensor"):
        InstanceNoise()(torch.zeros(3, dtype=torch.int64))
