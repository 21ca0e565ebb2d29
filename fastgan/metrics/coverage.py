"""Class coverage: the classes that a classifier finds among samples, and how evenly they are spread."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fastgan.metrics.checks import check_classes, check_set

CONFIDENT = 0.9
"""A sample counts as confident if its most likely class has at least this probability."""
COVERED = 0.01
"""A class is covered if at least this share of the confident samples falls into it."""


@dataclass(frozen=True)
class ClassCoverage:
    """How the samples spread over the classes.

    Attributes:
        covered: classes into which at least 1 % of the confident samples fall.
        classes: how many there are.
        confident: share of the samples whose most likely class has a probability of at least 0.9.
        histogram: share of all samples per most likely class.
        kl: KL(samples || data) between the class histograms, in nats; 0 if they agree.
    """

    covered: int
    classes: int
    confident: float
    histogram: tuple[float, ...]
    kl: float


def class_coverage(probabilities: Tensor, labels: Tensor) -> ClassCoverage:
    """Counts the classes of samples.

    Args:
        probabilities: floating point [N, classes], the classifier's on each sample, N at least 1.
        labels: int64 [M], the classes of the data; every class must occur.

    Raises:
        TypeError, ValueError: the probabilities or labels have another type or shape, are none or out of range, or a
            class does not occur.

    Srivastava et al. 2017 (VEEGAN), arXiv:1705.07761, section 5, counts modes and this KL on stacked MNIST.
    """
    check_set("class_coverage", "probabilities", probabilities, ("classes",))
    classes = probabilities.shape[1]
    check_classes("class_coverage", "labels", labels, len(labels), classes)
    missing = (torch.bincount(labels, minlength=classes) == 0).nonzero()
    if len(missing):
        raise ValueError(f"class_coverage: labels lack class {missing[0].item()}, expected every class to occur")
    highest, guess = probabilities.max(dim=1)
    confident = highest >= CONFIDENT
    per_class = torch.bincount(guess[confident], minlength=classes)
    enough = (per_class > 0) & (per_class >= COVERED * int(confident.sum()))
    samples, data = (torch.bincount(of, minlength=classes).double() / len(of) for of in (guess, labels))
    kl = torch.special.xlogy(samples, samples / data).sum().item()
    return ClassCoverage(
        covered=int(enough.sum()),
        classes=classes,
        confident=confident.double().mean().item(),
        histogram=tuple(samples.tolist()),
        kl=kl,
    )
