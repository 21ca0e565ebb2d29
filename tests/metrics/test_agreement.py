"""The share of images that are found to be of their class, counted by hand."""

import math

import pytest
import torch

from fastgan.data import digits
from fastgan.metrics import evaluate_digits
from fastgan.metrics.agreement import class_agreement


def test_by_hand():
    logits = torch.tensor([[2.0, 1, 0], [0, 1, 2], [0, 3, 1], [5, 4, 3], [1, 0, 3.0]])
    found = class_agreement(logits, torch.tensor([0, 2, 0, 0, 1]))
    assert found.share == pytest.approx(3 / 5)
    assert found.per_class == (pytest.approx(2 / 3), 0, 1)


def test_a_class_of_which_there_are_none():
    found = class_agreement(torch.eye(3)[:2], torch.tensor([0, 1]))
    assert found.per_class[:2] == (1, 1)
    assert math.isnan(found.per_class[2])


def test_of_digits(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("fastgan.metrics.classifier.EPOCHS", 5)
    images = digits()
    wrong = torch.where(images.labels == 4, 9, images.labels)
    report = evaluate_digits(images.pixels, wrong)
    assert report.data_right.share > 0.9
    # 181 fours were asked to be nines, as were the 180 nines.
    assert report.right.per_class[9] == pytest.approx(report.data_right.per_class[9] * 180 / 361, abs=0.06)
    assert math.isnan(report.right.per_class[4])
    assert report.right.per_class[:4] == report.data_right.per_class[:4]
    with pytest.raises(ValueError, match=r"evaluate_digits: asked has shape \[3\], expected \[1797\]"):
        evaluate_digits(images.pixels, images.labels[:3])
