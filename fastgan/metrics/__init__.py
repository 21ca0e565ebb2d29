"""How good samples are: distances to the data on features or patches, class coverage, and reports of them."""

from fastgan.metrics.classification_accuracy import ClassificationAccuracy, classification_accuracy_score
from fastgan.metrics.classifier import DigitClassifier, Judge, digit_judge
from fastgan.metrics.coverage import ClassCoverage, class_coverage
from fastgan.metrics.digits import Comparison, DigitsReport, evaluate_digits
from fastgan.metrics.distances import frechet_distance, kernel_distance
from fastgan.metrics.nearest import Memorisation, memorisation, nearest_neighbours
from fastgan.metrics.patches import PatchDistance, PatchReport, evaluate_patches
from fastgan.metrics.pyramid import laplacian_pyramid
from fastgan.metrics.sliced_wasserstein import sliced_wasserstein
from fastgan.metrics.stacked_digits import ModeCount, StackedDigitsReport, evaluate_stacked_digits

__all__ = [
    "ClassCoverage",
    "ClassificationAccuracy",
    "Comparison",
    "DigitClassifier",
    "DigitsReport",
    "Judge",
    "Memorisation",
    "ModeCount",
    "PatchDistance",
    "PatchReport",
    "StackedDigitsReport",
    "class_coverage",
    "classification_accuracy_score",
    "digit_judge",
    "evaluate_digits",
    "evaluate_patches",
    "evaluate_stacked_digits",
    "frechet_distance",
    "kernel_distance",
    "laplacian_pyramid",
    "memorisation",
    "nearest_neighbours",
    "sliced_wasserstein",
]
