"""Every objective in half precision: as near to float64 of the same outputs as float32 is, and as far as it goes."""

import pytest
import torch

from fastgan.losses import (
    LOSSES,
    auxiliary_classifier,
    hinge,
    learned_moments,
    nonsaturating,
    parse,
    semi_supervised,
    sliced_wasserstein_loss,
)
from fastgan.losses.features import wide

NAMES = [*LOSSES, "fgan:alpha:-1", "fgan:alpha:0.5", "fgan:alpha:3", "fgan:weighted_jensen_shannon:0.2"]
NAMES += [name + ":saturating" for name in NAMES if name.startswith("fgan:")]
NAMES += ["label_smoothing:0.9:nonsaturating", "feature_matching:hinge", "semi_supervised"]
EVERY = pytest.mark.parametrize("name", NAMES)
HALF = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])

EXPONENTIALS = ("kl", "reverse_kl", "neyman", "squared_hellinger", "jeffrey", "alpha")
SQUARES = ("least_squares", "fgan:pearson", "mmd", "feature_matching")


def loss_of(name):
    return semi_supervised(nonsaturating) if name == "semi_supervised" else parse(name)


def limit(name):
    """The largest output that docs/objectives.md promises."""
    if name == "sliced_wasserstein":
        return 1e16
    if name.startswith(SQUARES):
        return 1e18
    exponential = ("maximum_likelihood:plain", *(f"fgan:{name}" for name in EXPONENTIALS))
    return 1e23 if name.startswith(exponential) else 1e36


def differentiated(loss, real, fake):
    """(both players' losses, the gradients of the critic's by both sides, that of the generator's by the samples)."""
    real, fake = (side.clone().requires_grad_() for side in (real, fake))
    critic = loss.critic(real, fake)
    generator = loss.generator(fake, real.detach())
    slopes = torch.autograd.grad(critic, (real, fake)), torch.autograd.grad(generator, fake)
    return (critic.detach(), generator.detach()), [slope for side in slopes for slope in side]


@pytest.fixture(autouse=True)
def few_directions(monkeypatch):
    """The same for every type, and few: where two projections tie, the order and with it the slope is anybody's."""
    directions = torch.nn.functional.normalize(torch.randn(3, 12, dtype=torch.float64), dim=0)
    monkeypatch.setattr(
        sliced_wasserstein_loss, "random_directions", lambda f, p, like: directions[:f].to(wide(like).dtype)
    )
    return directions


def apart(sides, directions):
    """Whether no two of a side's projections are as near as float32 is coarse."""
    projections = (sides.double() @ directions).sort(1).values
    return bool((projections.diff(dim=1) > 1e-6 * sides.double().abs().max()).all())


@HALF
@EVERY
@pytest.mark.parametrize(("centre", "deviation"), [(0, 2.5), (200, 3), (-200, 3)])
def test_as_exact_as_float32(name, dtype, centre, deviation, few_directions, generator):
    """Near 200, where bfloat16 has steps of 1, means that were rounded to them would have differences of 0."""
    loss = loss_of(name)
    shape = (40, 3) if loss.witness else (40, 1)
    # Within 3 of 200 there are so few numbers of bfloat16 that some projections tie in almost every draw.
    deviation *= 10 if name == "sliced_wasserstein" else 1
    outputs = (centre + deviation * torch.randn(2, *shape, generator=generator)).to(dtype)
    while name == "sliced_wasserstein" and not apart(outputs, few_directions):
        outputs = (centre + deviation * torch.randn(2, *shape, generator=generator)).to(dtype)
    real, fake = outputs.abs() if loss.output == "error" else outputs
    exact, slopes = differentiated(loss, real.double(), fake.double())
    values, found = differentiated(loss, real, fake)
    # What a rounding of every output by one part in 2^23 does, and of a number near 1.
    sides = (slopes[0] * real).abs().sum() + (slopes[1] * fake).abs().sum(), (slopes[2] * fake).abs().sum()
    for value, truth, terms in zip(values, exact, sides, strict=True):
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(truth.item(), rel=1e-6, abs=2e-6 * (1 + terms.item()))
    largest = torch.finfo(dtype).max
    for slope, truth in zip(found, slopes, strict=True):
        assert slope.dtype == dtype
        close = torch.finfo(dtype).eps * truth.abs() + torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
        inside = truth.abs() < largest
        assert ((slope.double() - truth).abs() <= close + 2e-6 * truth.abs().max())[inside].all()
        assert (slope.double() / truth > 0)[~inside].all()  # of an exponential, in float16


@HALF
@EVERY
def test_autocast_changes_nothing(name, dtype, generator):
    loss = loss_of(name)
    real, fake = torch.rand(2, 6, 3 if loss.witness else 1, generator=generator)
    expected = loss.critic(real, fake), loss.generator(fake, real)
    with torch.autocast("cpu", dtype=dtype):
        found = loss.critic(real, fake), loss.generator(fake, real)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@EVERY
@pytest.mark.parametrize("share", [1e4, None])
def test_as_large_as_is_said(name, share, generator):
    loss = loss_of(name)
    size = limit(name) if share is None else share
    shape = (64, 3) if loss.witness else (64, 1)
    sides = (size * (1 + torch.rand(2, *shape, generator=generator)) / 2).bfloat16()
    for signs in [(1, 1)] if loss.output == "error" else [(1, 1), (1, -1), (-1, 1), (-1, -1)]:
        real, fake = (sign * side for sign, side in zip(signs, sides, strict=True))
        values, slopes = differentiated(loss, real, fake)
        assert all(found.isfinite().all() for found in (*values, *slopes))


@HALF
def test_the_auxiliary_classifier(dtype, generator):
    logits = (100 * torch.randn(2, 8, 5, generator=generator)).to(dtype)
    labels = torch.arange(8) % 5
    found = auxiliary_classifier.critic(logits[0], labels, logits[1], labels)
    exact = auxiliary_classifier.critic(logits[0].double(), labels, logits[1].double(), labels)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(exact.item(), rel=1e-6)


def test_learned_moments_are_averaged_in_float32(generator):
    """Of 300 numbers near 200: their mean in bfloat16 is one of its steps of 1."""
    critic = torch.nn.Linear(3, 1).bfloat16()
    x = (200 + torch.randn(300, 3, generator=generator)).bfloat16()
    found = learned_moments.moments(critic, x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found[-3:], x.double().mean(0).float(), rtol=1e-6, atol=0)
    assert learned_moments.critic(critic, x, x).dtype == torch.float32


def test_the_hinge_of_a_float16_network_that_averages_over_many(generator):
    """A float16 sum of 2^17 ones is infinite."""
    logits = torch.ones(2, 2**17, dtype=torch.float16)
    assert hinge.critic(*logits).item() == 2
