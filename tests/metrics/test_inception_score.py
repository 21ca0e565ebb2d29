"""The inception score against numpy, torchmetrics and what it must be of known probabilities."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics.image.inception import InceptionScore

from fastgan.metrics import inception_score


def written_out(probabilities):
    """exp of the mean over the samples of sum_y p(y|x) log(p(y|x) / p(y)), with 0 log 0 = 0."""
    marginal = probabilities.mean(0)
    total = 0.0
    for row in probabilities:
        total += sum(p * math.log(p / q) for p, q in zip(row, marginal, strict=True) if p > 0)
    return math.exp(total / len(probabilities))


@pytest.fixture
def logits(generator):
    return 3 * torch.randn(103, 7, generator=generator)


def test_is_the_formula(logits):
    expected = written_out(logits.double().softmax(1).numpy())
    assert inception_score(logits, splits=1) == (pytest.approx(expected, rel=1e-12), 0)


def test_splits_are_shuffled_parts_of_equal_size(logits):
    order = torch.randperm(103, generator=torch.Generator().manual_seed(5))
    probabilities = logits.double().softmax(1)[order].numpy()
    parts = np.split(probabilities, [26, 52, 78])  # 26, 26, 26 and 25
    scores = [written_out(part) for part in parts]
    assert inception_score(logits, splits=4, seed=5) == (
        pytest.approx(np.mean(scores), rel=1e-12),
        pytest.approx(np.std(scores), rel=1e-10),
    )


@pytest.mark.filterwarnings("ignore:Metric `InceptionScore`", "ignore:std")
def test_agrees_with_torchmetrics(logits):
    metric = InceptionScore(feature=nn.Identity(), splits=1)
    metric.update(logits)
    assert inception_score(logits, splits=1)[0] == pytest.approx(metric.compute()[0].item(), rel=1e-5)


def test_sure_and_even_is_the_number_of_classes_and_the_rest_is_1():
    """Samples in the order of their classes, which splits without shuffling would not survive."""
    sure = torch.eye(8).repeat_interleave(500, 0).log()  # logarithms of 0 and 1
    assert inception_score(sure, splits=1)[0] == pytest.approx(8, rel=1e-12)
    assert 7.8 < inception_score(sure, splits=10)[0] < 8
    assert inception_score(sure[:500], splits=10) == (pytest.approx(1), pytest.approx(0))  # one class
    assert inception_score(torch.zeros(500, 8)) == (pytest.approx(1), pytest.approx(0))  # no idea


def test_of_half_precision_far_from_0(logits):
    """Softmax does not see a constant; float16 is judged as the numbers that it holds."""
    rough = logits.half()
    exact = inception_score(rough.double(), splits=1)[0]
    assert inception_score(rough, splits=1)[0] == exact
    assert inception_score(rough.double() - 1e4, splits=1)[0] == pytest.approx(exact, rel=1e-9)


def test_leaves_the_global_generator(logits):
    before = torch.get_rng_state()
    inception_score(logits)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("given", "splits", "error", "message"),
    [
        (torch.zeros(5), 1, ValueError, r"class_logits has shape \[5\], expected \[at least 1, classes\]"),
        (torch.zeros(5, 3, dtype=torch.int64), 1, TypeError, "class_logits is torch.int64, expected a floating-point"),
        (torch.zeros(5, 3), 0, ValueError, "splits is 0, expected an integer of at least 1"),
        (torch.zeros(5, 3), 6, ValueError, "splits is 6, expected at most the 5 samples"),
    ],
)
def test_what_it_refuses(given, splits, error, message):
    with pytest.raises(error, match=f"inception_score: {message}"):
        inception_score(given, splits)
