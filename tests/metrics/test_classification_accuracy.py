"""The classification accuracy score: real digits teach as much as real digits, and wrong labels nothing."""

import pytest
import torch

from fastgan.data import digit_labels, digits
from fastgan.metrics import classification_accuracy_score, evaluate_digits
from fastgan.metrics.classifier import DigitClassifier, digit_judge, train_classifier_on, training_digits


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A cache of the module's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def test_real_digits_reproduce_the_real_accuracy():
    before = torch.get_rng_state()
    images, labels = training_digits()
    score = classification_accuracy_score(images, labels)
    assert torch.equal(torch.get_rng_state(), before)
    assert score.images == 1437
    assert score.samples == score.data == digit_judge().test_accuracy > 0.95


def test_what_is_tested_on_is_not_trained_on(monkeypatch):
    """Training and test digits are all digits, each once."""
    monkeypatch.setattr("fastgan.metrics.classifier.EPOCHS", 1)
    seen, classify = [], DigitClassifier.classify
    monkeypatch.setattr(DigitClassifier, "classify", lambda self, x: seen.append(x) or classify(self, x))
    images, labels = training_digits()
    train_classifier_on(images[:1], labels[:1])
    trained, tested = seen
    assert torch.equal(trained, images[:1])
    assert len(tested) == 360
    both = torch.cat([images, tested])
    assert sorted(both.flatten(1).tolist()) == sorted(digits().pixels.flatten(1).tolist())
    found = (images.flatten(1)[:, None] == digits().pixels.flatten(1)).all(2)
    assert torch.equal(labels, digit_labels()[found.int().argmax(1)])


def test_shuffled_labels_give_about_a_tenth():
    images, labels = training_digits()
    shuffled = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    score = classification_accuracy_score(images, shuffled)
    assert 0.03 < score.samples < 0.2
    assert score.data > 0.95


def test_as_many_real_digits_are_compared_with():
    images, labels = training_digits()
    few = classification_accuracy_score(images[:100], labels[:100])
    assert few.images == 100
    assert few.samples == few.data
    assert 0.5 < few.data < digit_judge().test_accuracy
    more = torch.cat([images, -images])  # what is beyond the real number is left out
    assert classification_accuracy_score(more, labels.repeat(2)).samples == digit_judge().test_accuracy


def test_the_report_of_a_conditional_generator_has_the_score(monkeypatch):
    monkeypatch.setattr("fastgan.metrics.classifier.EPOCHS", 1)
    images, labels = training_digits()
    report = evaluate_digits(images, labels.roll(1))
    assert report.taught == classification_accuracy_score(images, labels.roll(1))
    assert report.taught.samples < 0.3
    assert evaluate_digits(images).taught is None


@pytest.mark.parametrize(
    ("samples", "labels", "error", "message"),
    [
        ((5, 3, 8, 8), torch.zeros(5).long(), ValueError, r"samples has shape \[5, 3, 8, 8\], expected \[at least 1"),
        ((0, 1, 8, 8), torch.zeros(0).long(), ValueError, r"samples has shape \[0, 1, 8, 8\], expected"),
        ((5, 1, 8, 8), torch.zeros(5), TypeError, "labels is torch.float32, expected labels"),
        ((5, 1, 8, 8), torch.zeros(4).long(), ValueError, r"labels has shape \[4\], expected \[5\]"),
        ((5, 1, 8, 8), torch.full((5,), 10), ValueError, "labels holds 10, expected classes, 0 to 9"),
    ],
)
def test_wrong_arguments(samples, labels, error, message):
    with pytest.raises(error, match=f"classification_accuracy_score: {message}"):
        classification_accuracy_score(torch.zeros(samples), labels)
