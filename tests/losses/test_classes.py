"""Losses of class labels: n + 1 classes and the auxiliary classifier, against softmax written out."""

import math
import re

import numpy as np
import pytest
import torch

from fastgan.losses import (
    auxiliary_classifier,
    hinge,
    label_smoothing,
    minimax,
    mmd,
    nonsaturating,
    relativistic_pairing,
    semi_supervised,
    supervised,
)
from fastgan.losses.semi_supervised_loss import logit_of_data


@pytest.fixture
def drawn(generator):
    """Class logits on data and on samples, and the classes of both."""
    logits = torch.randn(2, 6, 4, dtype=torch.float64, generator=generator)
    return *logits, *torch.randint(4, (2, 6), generator=generator)


def log_probabilities(logits):
    exponentials = np.exp(logits.detach().numpy())
    return np.log(exponentials / exponentials.sum(1, keepdims=True))


def test_the_n_plus_1_classes(drawn):
    """As a softmax over n + 1 logits, the last of which is 0, would give it."""
    real, fake, labels, _ = drawn
    with_last = [np.concatenate([side.numpy(), np.zeros((6, 1))], 1) for side in (real, fake)]
    p_real, p_fake = (np.exp(side) / np.exp(side).sum(1, keepdims=True) for side in with_last)
    game = semi_supervised(nonsaturating)
    expected = -np.log(1 - p_real[:, 4]).mean() - np.log(p_fake[:, 4]).mean()
    assert game.critic(real, fake).item() == pytest.approx(expected, rel=1e-12)
    assert game.generator(fake).item() == pytest.approx(-np.log(1 - p_fake[:, 4]).mean(), rel=1e-12)
    within = [p_real[i, label] / (1 - p_real[i, 4]) for i, label in enumerate(labels.tolist())]
    assert supervised(real, labels).item() == pytest.approx(-np.log(within).mean(), rel=1e-12)
    z = np.exp(real.numpy()).sum(1)
    np.testing.assert_allclose(torch.sigmoid(logit_of_data(real))[:, 0], z / (z + 1), rtol=1e-12)


def test_it_composes(drawn):
    real, fake = drawn[:2]
    for loss in (minimax, hinge, relativistic_pairing, label_smoothing(nonsaturating)):
        game = semi_supervised(loss)
        assert game.name == f"semi_supervised:{loss.name}"
        assert game.critic(real, fake) == loss.critic(logit_of_data(real), logit_of_data(fake))
        assert game.generator(fake, real) == loss.generator(logit_of_data(fake), logit_of_data(real))
        assert game.needs_real == loss.needs_real


def test_derivatives(drawn):
    real, fake, labels, other = drawn
    sides = (real.requires_grad_(), fake.requires_grad_())
    for function in (
        semi_supervised(nonsaturating).critic,
        lambda x, y: supervised(x, labels) + semi_supervised(nonsaturating).generator(y),
        lambda x, y: auxiliary_classifier.critic(x, labels, y, other),
    ):
        assert torch.autograd.gradcheck(function, sides)
        assert torch.autograd.gradgradcheck(function, sides)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_large_logits(dtype):
    """Z = exp(1e4) is infinite in every type."""
    real = torch.tensor([[1e4, 0.0], [-1e4, -1e4]], dtype=dtype, requires_grad=True)
    value = semi_supervised(nonsaturating).critic(real, real.detach())
    (slope,) = torch.autograd.grad(value, real)
    assert value.item() == pytest.approx(1e4 - math.log(2) / 2, rel=2 * torch.finfo(dtype).eps)
    np.testing.assert_allclose(slope.double(), [[0, 0], [-0.25, -0.25]], atol=1e-6)
    loss = supervised(real, torch.tensor([1, 0]))
    assert loss.item() == pytest.approx((1e4 + math.log(2)) / 2, rel=2 * torch.finfo(dtype).eps)


def test_the_auxiliary_classifier(drawn):
    real, fake, labels, other = drawn
    of_data = -np.mean([log_probabilities(real)[i, c] for i, c in enumerate(labels.tolist())])
    of_samples = -np.mean([log_probabilities(fake)[i, c] for i, c in enumerate(other.tolist())])
    assert auxiliary_classifier.critic(real, labels, fake, other).item() == pytest.approx(
        of_data + of_samples, rel=1e-12
    )
    assert auxiliary_classifier.generator(fake, other).item() == pytest.approx(of_samples, rel=1e-12)
    flat = torch.zeros(3, 5)
    assert auxiliary_classifier.generator(flat, torch.tensor([0, 4, 2])).item() == pytest.approx(math.log(5))


LOGITS, LABELS = torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64)


@pytest.mark.parametrize(
    ("logits", "labels", "error", "message"),
    [
        (LOGITS, LABELS[:3], ValueError, "fake_labels has shape [3], expected [4]"),
        (LOGITS, LABELS[:, None], ValueError, "fake_labels has shape [4, 1], expected [4]"),
        (LOGITS, LABELS + 3, ValueError, "fake_labels are from 3 to 3, expected 0 to 2"),
        (LOGITS, LABELS - 1, ValueError, "fake_labels are from -1 to -1, expected 0 to 2"),
        (LOGITS, LABELS.int(), TypeError, "fake_labels is torch.int32, expected a tensor of int64"),
        (LOGITS, None, TypeError, "fake_labels is NoneType, expected a tensor of int64"),
        (LOGITS[0], LABELS, ValueError, "fake_class_logits has shape [3], expected [B, n]"),
        (LABELS, LABELS, TypeError, "fake_class_logits is torch.int64, expected a floating-point tensor"),
    ],
)
def test_wrong_labels(logits, labels, error, message):
    with pytest.raises(error, match=re.escape(f"auxiliary_classifier: {message}")):
        auxiliary_classifier.generator(logits, labels)
    with pytest.raises(error, match=re.escape(message.replace("fake_", ""))):
        supervised(logits, labels)


def test_what_has_no_logit():
    with pytest.raises(ValueError, match="semi_supervised: loss is mmd, a game of features, expected one of logits"):
        semi_supervised(mmd)
    with pytest.raises(ValueError, match=r"semi_supervised: loss is .*, a game of class logits, expected one"):
        semi_supervised(semi_supervised(nonsaturating))
    with pytest.raises(TypeError, match="semi_supervised: loss is str, expected a Loss"):
        semi_supervised("hinge")
    with pytest.raises(ValueError, match=re.escape("class_logits has shape [4, 0], expected a class at least")):
        semi_supervised(nonsaturating).generator(torch.zeros(4, 0))
