"""The classification accuracy score: that of a classifier trained on samples and tested on real images."""

from dataclasses import dataclass

from torch import Tensor

from fastgan.metrics.checks import check_classes, check_set
from fastgan.metrics.classifier import digit_judge, train_classifier_on, training_digits


@dataclass(frozen=True)
class ClassificationAccuracy:
    """The accuracy on real images of a classifier that was trained on other images.

    Attributes:
        images: that each of the two classifiers was trained on.
        samples: accuracy after training on samples, with the classes that they were asked to be: the score.
        data: accuracy after the same training on as many real images: what no generator can be expected to beat by
            more than chance.
    """

    images: int
    samples: float
    data: float


def classification_accuracy_score(samples: Tensor, labels: Tensor) -> ClassificationAccuracy:
    """Trains the judge's classifier on samples of a class-conditional generator and tests it on the held-out digits.

    It sees what a classifier that was trained on real images does not: classes of which the samples are all alike, or
    lack a way in which the digit is written, teach little about it. One training, always from the same seed, and 360
    real digits to test on, of which none are trained on here, though a generator may have seen them: at an accuracy of
    95 % the standard error is 1.1 %. Takes seconds; leaves PyTorch's global generators as they were.

    Args:
        samples: float32 [N, 1, 8, 8] in [-1, 1] on the CPU, N at least 1. The first 1,437 are used, as many as there
            are real digits to train on.
        labels: the digits that they were asked to be, int64 [N].

    Raises:
        TypeError: the samples are not of floating point, or the labels no integers.
        ValueError: there are no samples, they are of another shape or not finite, or the labels are not one digit for
            each.

    Ravuri and Vinyals 2019, arXiv:1905.10887, section 3.
    """
    owner = "classification_accuracy_score"
    check_set(owner, "samples", samples, (1, 8, 8))
    check_classes(owner, "labels", labels, len(samples), 10)
    real, real_labels = training_digits()
    count = min(len(samples), len(real))
    _, accuracy = train_classifier_on(samples[:count], labels[:count].long())
    # The judge is the classifier of all of them.
    data = (
        digit_judge().test_accuracy if count == len(real) else train_classifier_on(real[:count], real_labels[:count])[1]
    )
    return ClassificationAccuracy(count, accuracy, data)
