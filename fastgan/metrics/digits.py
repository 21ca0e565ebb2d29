"""How good generated digits are, beside what two halves of the real ones score against each other."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fastgan.data import digit_labels, digits
from fastgan.metrics.classifier import digit_judge
from fastgan.metrics.coverage import ClassCoverage, class_coverage
from fastgan.metrics.distances import frechet_distance, kernel_distance

HALF = 898
"""Images in each half of the 1,797 digits, and so the fewest samples that can be compared with them."""


@dataclass(frozen=True)
class Comparison:
    """The distances between real images and a second set.

    Attributes:
        real, other: how many images there were of each.
        frechet: Fréchet distance, which depends on these numbers.
        kernel, kernel_std: kernel distance over subsets of 500, and its standard deviation.
    """

    real: int
    other: int
    frechet: float
    kernel: float
    kernel_std: float


@dataclass(frozen=True)
class DigitsReport:
    """What `fastgan evaluate` prints.

    Attributes:
        test_accuracy: of the classifier whose features and classes all of it is measured by.
        all: all real digits against all samples.
        matched: one half of the real digits against as many samples.
        floor: the same half against the other half: what no generator can be expected to beat.
        samples, data: how the classifier spreads the samples and the real digits over the ten classes.
    """

    test_accuracy: float
    all: Comparison
    matched: Comparison
    floor: Comparison
    samples: ClassCoverage
    data: ClassCoverage


def evaluate_digits(samples: Tensor) -> DigitsReport:
    """Compares samples with the digits.

    Args:
        samples: float32 [N, 1, 8, 8] in [-1, 1] on the CPU, N at least 898.

    Raises:
        ValueError: they are too few or of another shape.
    """
    if samples.shape[1:] != (1, 8, 8) or len(samples) < HALF:
        raise ValueError(f"samples have shape {list(samples.shape)}, expected [at least {HALF}, 1, 8, 8]")
    judge = digit_judge()
    real, labels = digits().pixels, digit_labels()
    halves = torch.randperm(len(real), generator=torch.Generator().manual_seed(0))
    first, second = real[halves[:HALF]], real[halves[HALF : 2 * HALF]]

    def compare(some: Tensor, others: Tensor) -> Comparison:
        frechet = frechet_distance(some, others, judge.network)
        return Comparison(len(some), len(others), frechet, *kernel_distance(some, others, judge.network))

    def coverage(images: Tensor) -> ClassCoverage:
        return class_coverage(judge.network.classify(images).softmax(1), labels)

    return DigitsReport(
        test_accuracy=judge.test_accuracy,
        all=compare(real, samples),
        matched=compare(first, samples[:HALF]),
        floor=compare(first, second),
        samples=coverage(samples),
        data=coverage(real),
    )
