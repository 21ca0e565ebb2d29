"""Class coverage on distributions whose answer can be counted by hand."""

import math

import pytest
import torch

from fastgan.metrics import class_coverage


def one_hot(counts, sure=0.97):
    """Probabilities of `sure` for the class, `counts[c]` samples of each class."""
    classes = len(counts)
    guess = torch.repeat_interleave(torch.arange(classes), torch.tensor(counts))
    rest = (1 - sure) / (classes - 1)
    return torch.full((len(guess), classes), rest).scatter(1, guess[:, None], sure)


def test_every_class_evenly():
    labels = torch.arange(4).repeat(25)
    spread = class_coverage(one_hot([10, 10, 10, 10]), labels)
    assert (spread.covered, spread.classes, spread.confident) == (4, 4, 1)
    assert spread.histogram == (0.25, 0.25, 0.25, 0.25)
    assert spread.kl == 0


def test_collapse_to_one_class():
    spread = class_coverage(one_hot([0, 40, 0, 0]), torch.arange(4).repeat(25))
    assert spread.covered == 1
    assert spread.kl == pytest.approx(math.log(4), rel=1e-12)


def test_kl_is_from_the_samples_to_the_data():
    labels = torch.tensor([0] * 30 + [1] * 70)
    spread = class_coverage(one_hot([80, 20]), labels)
    assert spread.kl == pytest.approx(0.8 * math.log(0.8 / 0.3) + 0.2 * math.log(0.2 / 0.7), rel=1e-12)


def test_a_class_needs_one_percent_of_the_confident_samples():
    labels = torch.arange(3).repeat(10)
    assert class_coverage(one_hot([197, 2, 1]), labels).covered == 2
    assert class_coverage(one_hot([98, 1, 1]), labels).covered == 3


def test_doubtful_samples_do_not_cover():
    labels = torch.arange(2).repeat(10)
    probabilities = torch.cat([one_hot([50, 0]), one_hot([0, 50], sure=0.89)])
    spread = class_coverage(probabilities, labels)
    assert (spread.covered, spread.confident) == (1, 0.5)
    assert spread.histogram == (0.5, 0.5)


def test_nothing_confident_covers_nothing():
    assert class_coverage(torch.full((20, 4), 0.25), torch.arange(4).repeat(5)).covered == 0
