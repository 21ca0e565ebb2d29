"""Mode coverage of stacked digits: how many of 1,000 modes samples cover, and how evenly."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fastgan.data import digit_labels, digits
from fastgan.metrics.checks import check_set
from fastgan.metrics.classifier import DigitClassifier, digit_judge
from fastgan.metrics.coverage import CONFIDENT

MODES = 1000
STACKED_SAMPLES = 26_000
"""As many as Srivastava et al. 2017 draw."""
CHUNK = 4096


@dataclass(frozen=True)
class ModeCount:
    """The modes that images of three digits fall into.

    Attributes:
        modes: the modes, of 1,000, that at least one image is taken for.
        kl: KL(images || data) between the shares of the modes, in nats; never quite 0 for a finite number of images.
        confident: share of the images whose three digits all have a probability of at least 0.9. Without it the
            modes say little: a classifier finds hundreds of them in noise.
    """

    modes: int
    kl: float
    confident: float


@dataclass(frozen=True)
class StackedDigitsReport:
    """The report that `fastgan evaluate` prints of stacked digits.

    Attributes:
        test_accuracy: of the classifier of single digits that judges each channel.
        images: how many were judged of each.
        samples: the generator's.
        data: real stacks, as many, of the same digits: what no generator can be expected to beat.
    """

    test_accuracy: float
    images: int
    samples: ModeCount
    data: ModeCount


def evaluate_stacked_digits(samples: Tensor) -> StackedDigitsReport:
    """Counts the modes of samples and, beside them, of as many of the real stacks.

    Args:
        samples: float32 [N, 3, 8, 8] in [-1, 1] on the CPU, N at least 1; 26,000 to compare with what is published.

    Raises:
        TypeError, ValueError: they are none, of another type or shape, or not finite.

    Srivastava et al. 2017 (VEEGAN), arXiv:1705.07761, section 5; Lin et al. 2018 (PacGAN), arXiv:1712.04086, section 4.
    """
    check_set("evaluate_stacked_digits", "samples", samples, (3, 8, 8))
    judge = digit_judge()
    # Stacked afresh: the 50,000 that are trained on have chance deviations of their own.
    drawn = torch.randint(len(digit_labels()), (len(samples), 3), generator=torch.Generator().manual_seed(1))
    return StackedDigitsReport(
        test_accuracy=judge.test_accuracy,
        images=len(samples),
        samples=count_modes(judge.network, samples),
        data=count_modes(judge.network, digits().pixels[drawn, 0]),
    )


def mode_shares() -> Tensor:
    """How likely each mode is in the data: float64 [1000], products of the shares of three digits."""
    of_digit = torch.bincount(digit_labels(), minlength=10).double() / len(digit_labels())
    return torch.einsum("a,b,c->abc", of_digit, of_digit, of_digit).flatten()


def count_modes(network: DigitClassifier, images: Tensor) -> ModeCount:
    """The modes of images, whose channels a classifier of single digits reads: float32 [N, 3, 8, 8], N at least 1."""
    highest, guess = (
        torch.cat(parts).view(-1, 3)
        for parts in zip(
            *(network.classify(part.flatten(0, 1)[:, None]).softmax(1).max(1) for part in images.split(CHUNK)),
            strict=True,
        )
    )
    counts = torch.bincount(guess @ torch.tensor([100, 10, 1]), minlength=MODES)
    found = counts.double() / len(images)
    return ModeCount(
        modes=int((counts > 0).sum()),
        kl=torch.special.xlogy(found, found / mode_shares()).sum().item(),
        confident=(highest >= CONFIDENT).all(1).double().mean().item(),
    )
