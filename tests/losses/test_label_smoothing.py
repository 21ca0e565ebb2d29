"""Label smoothing: the critic it is best for, and the objectives it has no meaning for."""

import re

import numpy as np
import pytest
import torch
from scipy import stats

from fastgan.losses import LOSSES, hinge, label_smoothing, least_squares, nonsaturating, parse, semi_supervised

CLASSIFIERS = [name for name, loss in LOSSES.items() if loss.classifier]
OTHERS = [name for name, loss in LOSSES.items() if not loss.classifier]


@pytest.fixture
def logits(generator):
    return torch.randn(2, 30, 1, dtype=torch.float64, generator=generator) * 3


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("target", [0.9, 0.7, 1.0])
def test_the_best_critic(name, target):
    """Minimised point by point over p and q on a line, s(D) becomes target p / (p + q)."""
    points = np.linspace(-2.0, 3.0, 9)
    p, q = (torch.tensor(d.pdf(points)) for d in (stats.norm(0, 1), stats.norm(1, 0.7)))
    best = target * p / (p + q)
    logit = best if name == "least_squares" else torch.log(best / (1 - best))
    logit.requires_grad_()
    loss = label_smoothing(LOSSES[name], target)
    total = sum(p[i] * loss.critic(logit[i], torch.zeros(1)) for i in range(9))
    total = total + sum(q[i] * loss.critic(torch.zeros(1), logit[i]) for i in range(9))
    (slope,) = torch.autograd.grad(total, logit)
    torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", [name for name in CLASSIFIERS if name != "least_squares"])
def test_it_is_the_cross_entropy_of_the_target(name, logits):
    real, fake = logits
    loss = label_smoothing(LOSSES[name], 0.8)
    x, y = (1 / (1 + np.exp(-side.numpy())) for side in logits)
    expected = -np.mean(0.8 * np.log(x) + 0.2 * np.log(1 - x)) - np.mean(np.log(1 - y))
    constant = 2 * np.log(2) if name == "fgan:jensen_shannon" else 0
    assert loss.critic(real, fake).item() == pytest.approx(expected - constant, rel=1e-11)
    assert loss.generator(fake, None) == LOSSES[name].generator(fake, None)


def test_least_squares_regress_on_the_target(logits):
    """Up to the constant (1 - 0.8^2) / 2."""
    real, fake = logits
    expected = np.mean((real.numpy() - 0.8) ** 2) / 2 + np.mean(fake.numpy() ** 2) / 2
    found = label_smoothing(least_squares, 0.8).critic(real, fake).item()
    assert found == pytest.approx(expected + (1 - 0.8**2) / 2, rel=1e-12)


def test_one_side_alone_is_smoothed(logits):
    real, fake = logits[0], logits[1].requires_grad_()
    pulls = [
        torch.autograd.grad(g.critic(real, fake), fake)[0] for g in (nonsaturating, label_smoothing(nonsaturating))
    ]
    assert torch.equal(*pulls)


def test_derivatives_and_large_logits(logits):
    loss = label_smoothing(nonsaturating)
    real, fake = ((x[:5] / 3).requires_grad_() for x in logits)
    assert torch.autograd.gradcheck(loss.critic, (real, fake))
    assert torch.autograd.gradgradcheck(loss.critic, (real, fake))
    for dtype in (torch.float32, torch.bfloat16):
        for size in (1e4, -1e4):
            real = torch.tensor([[size]], dtype=dtype, requires_grad=True)
            value = loss.critic(real, -real.detach())
            (slope,) = torch.autograd.grad(value, real)
            expected = 0.1 * size if size > 0 else 1e4 + 0.9 * 1e4
            assert value.item() == pytest.approx(expected, rel=4 * torch.finfo(dtype).eps)
            assert slope.item() == pytest.approx(0.1 if size > 0 else -0.9, rel=4 * torch.finfo(dtype).eps)


def test_names(logits):
    loss = parse("label_smoothing:0.8:fgan:gan")
    assert loss.name == "label_smoothing:0.8:fgan:gan"
    assert loss.critic(*logits) == label_smoothing(LOSSES["fgan:gan"], 0.8).critic(*logits)
    assert semi_supervised(loss).critic(*logits).isfinite()
    for text in ("label_smoothing", "label_smoothing:nonsaturating", "label_smoothing::nonsaturating"):
        with pytest.raises(
            ValueError, match=f"'{text}', expected a number and an objective, as in label_smoothing:0.9"
        ):
            parse(text)
    with pytest.raises(ValueError, match=r"'nothing', expected .*nonsaturating"):
        parse("label_smoothing:0.9:nothing")


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_classifier_is_refused(name):
    with pytest.raises(ValueError, match=re.escape(f"label_smoothing: loss is {name}, whose critic has no target for")):
        label_smoothing(LOSSES[name])


def test_bad_arguments():
    for target in (0, -0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=f"real is {target}, expected a number above 0 and at most 1"):
            label_smoothing(nonsaturating, target)
    with pytest.raises(TypeError, match="label_smoothing: loss is str, expected a Loss"):
        label_smoothing("hinge")
    with pytest.raises(ValueError, match=r"label_smoothing: loss is label_smoothing:0\.9:nonsaturating"):
        label_smoothing(label_smoothing(nonsaturating))
    assert not hinge.classifier
