"""The measurements of `fastgan evaluate`: which figures a generator gets, by the images that it makes."""

from typing import Any

from torch import Tensor

from fastgan.data import DIGITS, STACKED_DIGITS
from fastgan.errors import UserError
from fastgan.metrics import (
    DigitsReport,
    PatchReport,
    StackedDigitsReport,
    evaluate_digits,
    evaluate_patches,
    evaluate_stacked_digits,
)
from fastgan.metrics.digits import HALF_OF_DIGITS
from fastgan.metrics.pyramid import SMALLEST
from fastgan.metrics.stacked_digits import STACKED_SAMPLES
from fastgan.recipes import Trained

EvaluationReport = DigitsReport | StackedDigitsReport | PatchReport


def usual_samples(trained: Trained) -> int:
    """The default number of samples: 2,000, or 26,000 for stacked digits, whose 1,000 modes are counted."""
    return STACKED_SAMPLES if trained.recipe.data.image == STACKED_DIGITS else 2000


def measure(trained: Trained, n: int, seed: int) -> EvaluationReport:
    """Compares n samples with the images that the generator was trained on.

    Digits of 1×8×8 and stacks of three are judged by a classifier, all other images from 16×16 on by their patches. The
    classes that a conditional generator is asked for are as frequent as those of the data.

    Raises:
        UserError: the images are smaller, cannot be read again or are a single one, n is too small for the digits, or
            the samples are not finite.
    """
    generator: Any = trained.task
    data = trained.recipe.data.image
    channels, height, width = generator.sample(1).shape[1:]
    if data == STACKED_DIGITS:
        return evaluate_stacked_digits(_finite(generator.sample(n, seed)))
    if data == DIGITS and (channels, height, width) == (1, 8, 8):
        if n < HALF_OF_DIGITS:
            raise UserError(f"--n is {n}, expected at least {HALF_OF_DIGITS}, half of the digits")
        asked = generator.labels(n, seed) if generator.told_classes else None
        return evaluate_digits(_finite(generator.sample(n, seed, labels=asked)), asked)
    if min(height, width) < SMALLEST:
        raise UserError(
            f"CHECKPOINT was trained on {data!r} and makes images of {channels}x{height}x{width}; "
            f"expected the digits at 1x8x8, or at least {SMALLEST}x{SMALLEST}"
        )
    images: Any = trained.sources()["image"]
    if len(images) < 2:
        raise UserError(f"CHECKPOINT was trained on {data!r}, a single image; expected at least 2 to compare")
    return evaluate_patches(_finite(generator.sample(n, seed)), images)


def _finite(samples: Tensor) -> Tensor:
    if not samples.isfinite().all():
        raise UserError(
            "CHECKPOINT makes images that are not finite numbers, expected a generator that has not diverged"
        )
    return samples
