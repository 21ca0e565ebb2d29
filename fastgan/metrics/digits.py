"""The report on generated digits, beside the scores of two halves of the real ones against each other."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fastgan.data import digit_labels, digits
from fastgan.metrics.agreement import ClassAgreement, class_agreement
from fastgan.metrics.checks import check_classes, check_set
from fastgan.metrics.classification_accuracy import ClassificationAccuracy, classification_accuracy_score
from fastgan.metrics.classifier import digit_judge
from fastgan.metrics.coverage import ClassCoverage, class_coverage
from fastgan.metrics.distances import frechet_distance, kernel_distance
from fastgan.metrics.inception import inception_score
from fastgan.metrics.precision_and_recall import density_coverage, precision_recall

HALF_OF_DIGITS = 898
"""Images in each half of the 1,797 digits, and so the fewest samples that can be compared with them."""
SPLITS = 20
"""Random halvings: the Fréchet distance between two halves varies by a third from one to the next."""
SUBSETS = 100
NEIGHBOUR_SPLITS = 4
"""Of the splits, those whose neighbours are looked for, which takes longest."""


@dataclass(frozen=True)
class Comparison:
    """The distances between real images and a second set.

    Attributes:
        real, other: how many images there were of each.
        frechet, frechet_std: Fréchet distance, which depends on these numbers: mean and standard deviation over 20
            random splits (0 where all images are compared, once).
        kernel, kernel_error: kernel distance: mean over 100 random subsets of 500, and the standard error, for the
            choice of the images, of one comparison of so many. What is a mean over splits errs less.
    """

    real: int
    other: int
    frechet: float
    frechet_std: float
    kernel: float
    kernel_error: float


@dataclass(frozen=True)
class Scores:
    """Inception score, precision, recall, density and coverage, over random sets of 898 images.

    Attributes:
        inception_score, inception_score_std: mean and standard deviation over 20 random sets.
        precision, recall: to the third neighbours, against 898 real images, as means over the first 4 sets.
        density, coverage: likewise, to the fifth.
    """

    inception_score: float
    inception_score_std: float
    precision: float
    recall: float
    density: float
    coverage: float


@dataclass(frozen=True)
class DigitsReport:
    """The report that `fastgan evaluate` prints of digits.

    Attributes:
        test_accuracy: of the classifier whose features and classes are used, on digits it has not seen.
        all: all real digits against all samples.
        matched: random halves of the real digits against as many samples.
        floor: the same halves against the other halves: what no generator can be expected to beat.
        scores: of random 898 of the samples against halves of the real digits.
        data_scores: of the other halves against the same ones: what a perfect generator can be expected to score.
        samples, data: how the classifier spreads the samples and the real digits over the ten classes.
        right, data_right: how often it finds the digit that a sample was asked to be, and the one that a real image is
            labelled as; None of an unconditional generator. It was trained on most of the real ones.
        taught: how well another classifier does that was trained on the samples; None of an unconditional generator.
    """

    test_accuracy: float
    all: Comparison
    matched: Comparison
    floor: Comparison
    scores: Scores
    data_scores: Scores
    samples: ClassCoverage
    data: ClassCoverage
    right: ClassAgreement | None = None
    data_right: ClassAgreement | None = None
    taught: ClassificationAccuracy | None = None


def evaluate_digits(samples: Tensor, asked: Tensor | None = None) -> DigitsReport:
    """Compares samples with the digits.

    Args:
        samples: float32 [N, 1, 8, 8] in [-1, 1] on the CPU, N at least 898.
        asked: the digits that they were asked to be, int64 [N], of a class-conditional generator.

    Raises:
        TypeError, ValueError: the samples are too few, of another type or shape or not finite, or `asked` is not one
            digit for each.
    """
    check_set("evaluate_digits", "samples", samples, (1, 8, 8), HALF_OF_DIGITS)
    if asked is not None:
        check_classes("evaluate_digits", "asked", asked, len(samples), 10)
    judge = digit_judge()
    real, labels = digits().pixels, digit_labels()
    features, sampled = judge.network(real), judge.network(samples)
    logits, sampled_logits = judge.network.classify(real), judge.network.classify(samples)

    random = torch.Generator().manual_seed(0)
    matched, floor, chosen_logits, other_logits = [], [], [], []
    for _ in range(SPLITS):
        order = torch.randperm(len(real), generator=random)
        half, other_half = order[:HALF_OF_DIGITS], order[HALF_OF_DIGITS : 2 * HALF_OF_DIGITS]
        chosen = torch.randperm(len(samples), generator=random)[:HALF_OF_DIGITS]
        matched.append((features[half], sampled[chosen]))
        floor.append((features[half], features[other_half]))
        chosen_logits.append(sampled_logits[chosen])
        other_logits.append(logits[other_half])

    return DigitsReport(
        test_accuracy=judge.test_accuracy,
        all=_compare([(features, sampled)]),
        matched=_compare(matched),
        floor=_compare(floor),
        scores=_score(matched, chosen_logits),
        data_scores=_score(floor, other_logits),
        samples=class_coverage(sampled_logits.softmax(1), labels),
        data=class_coverage(logits.softmax(1), labels),
        right=None if asked is None else class_agreement(sampled_logits, asked),
        data_right=None if asked is None else class_agreement(logits, labels),
        taught=None if asked is None else classification_accuracy_score(samples, asked),
    )


def _compare(pairs: list[tuple[Tensor, Tensor]]) -> Comparison:
    """The distances between the features of each pair, averaged over the pairs."""
    frechet = torch.tensor([frechet_distance(*pair) for pair in pairs], dtype=torch.float64)
    kernel = torch.tensor(
        [kernel_distance(*pair, SUBSETS // len(pairs), seed) for seed, pair in enumerate(pairs)], dtype=torch.float64
    )
    means, errors = kernel.unbind(1)
    return Comparison(
        real=len(pairs[0][0]),
        other=len(pairs[0][1]),
        frechet=frechet.mean().item(),
        frechet_std=frechet.std(unbiased=False).item(),
        kernel=means.mean().item(),
        kernel_error=errors.square().mean().sqrt().item(),
    )


def _score(pairs: list[tuple[Tensor, Tensor]], logits: list[Tensor]) -> Scores:
    """The scores of the second images of each pair of features, whose classes the logits say."""
    inception = torch.tensor([inception_score(of, splits=1)[0] for of in logits], dtype=torch.float64)
    neighbours = torch.tensor(
        [precision_recall(*pair) + density_coverage(*pair) for pair in pairs[:NEIGHBOUR_SPLITS]], dtype=torch.float64
    )
    return Scores(inception.mean().item(), inception.std(unbiased=False).item(), *neighbours.mean(dim=0).tolist())
