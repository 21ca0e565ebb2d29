"""The energy-based losses at their margin, and the pulling-away term against a double loop."""

import re

import numpy as np
import pytest
import torch

from fastgan.losses import ebgan, parse, pulling_away


def test_samples_beyond_the_margin_are_left_alone():
    real = torch.tensor([0.5, 1.5], requires_grad=True)
    fake = torch.tensor([0.0, 2.9, 3.1, 1e4], requires_grad=True)
    loss = ebgan(3.0)
    value = loss.critic(real, fake)
    up, down = torch.autograd.grad(value, (real, fake))
    assert value.item() == pytest.approx(1 + (3 + 0.1) / 4, rel=1e-6)
    assert up.tolist() == [0.5, 0.5]
    assert down.tolist() == [-0.25, -0.25, 0, 0]
    (pull,) = torch.autograd.grad(loss.generator(fake, None), fake)
    assert pull.tolist() == [0.25] * 4


def test_the_default_margin_can_be_passed_by_images():
    """Those in [-1, 1], answered with their opposite, have errors of up to 4."""
    images = torch.tensor([[0.1, -0.1], [0.9, -0.8]])
    errors = (2 * images).square().mean(1).requires_grad_()
    (slope,) = torch.autograd.grad(ebgan().critic(torch.zeros(2), errors), errors)
    assert slope.tolist() == [-0.5, 0]


def test_the_value_of_equals_is_the_margin():
    """Theorem 2 of the paper: with p = q and one and the same error below m everywhere, E D + E (m - D) = m."""
    errors = torch.rand(20, 1, dtype=torch.float64)
    assert ebgan(2.5).critic(errors, errors).item() == pytest.approx(2.5, rel=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_large_errors_and_any_shape(dtype):
    errors = torch.full((4, 1), 1e4, dtype=dtype)
    for loss in (ebgan(), ebgan(2e4)):
        for value in loss(errors, errors.flatten()):
            assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
            assert value.isfinite()
    assert ebgan().generator(errors).item() == errors[0, 0].item()


def test_names(generator):
    errors = torch.rand(2, 5, generator=generator)
    assert parse("ebgan:1").name == "ebgan" == ebgan().name
    assert parse("ebgan:0.5").name == "ebgan:0.5"
    assert parse("ebgan:0.5").critic(*errors) == ebgan(0.5).critic(*errors) != ebgan().critic(*errors)
    with pytest.raises(ValueError, match=r"'ebgan:', expected a number for the margin, as in ebgan:0\.5"):
        parse("ebgan:")
    for margin in (0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"ebgan: margin is {margin}, expected a number above 0"):
            ebgan(margin)


@pytest.mark.parametrize(("batch", "features"), [(6, 4), (2, 1), (3, 9)])
def test_pulling_away_is_the_double_loop(batch, features, generator):
    s = torch.randn(batch, features, dtype=torch.float64, generator=generator)
    rows, total = s.numpy(), 0.0
    for i in range(batch):
        for j in range(batch):
            if i != j:
                cosine = rows[i] @ rows[j] / (np.linalg.norm(rows[i]) * np.linalg.norm(rows[j]))
                total += cosine**2 / (batch * (batch - 1))
    assert pulling_away(s).item() == pytest.approx(total, rel=1e-12)
    leaf = s.requires_grad_()
    assert torch.autograd.gradcheck(pulling_away, (leaf,), atol=1e-4)
    assert torch.autograd.gradgradcheck(pulling_away, (leaf,), atol=1e-4)


def test_pulling_away_of_equal_and_orthogonal_features():
    assert pulling_away(torch.ones(5, 3) * torch.tensor([[1.0], [-2], [3], [1e4], [1e-4]])).item() == pytest.approx(1)
    assert pulling_away(torch.eye(4)).item() == 0
    zeros = torch.zeros(3, 4, requires_grad=True)
    value = pulling_away(zeros)
    assert value.item() == 0
    assert torch.autograd.grad(value, zeros)[0].abs().max() == 0


def test_pulling_away_in_half_precision(generator):
    s = torch.randn(8, 16, generator=generator).bfloat16()
    found = pulling_away(1e4 * s)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(pulling_away((1e4 * s).double()).item(), rel=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert pulling_away(s.float()) == pulling_away(s)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((1, 3), "[1, 3], expected at least 2 samples"), ((4,), "[4], expected [B, F]")],
)
def test_what_are_no_features(shape, message):
    with pytest.raises(ValueError, match=re.escape(f"pulling_away: features has shape {message}")):
        pulling_away(torch.zeros(shape))
