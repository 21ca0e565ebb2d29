"""Measures of samples: distances to the data by features or patches, nearest neighbours, classes, reports."""

from fastgan.metrics.classification_accuracy import ClassificationAccuracy, classification_accuracy_score
from fastgan.metrics.classifier import DigitClassifier, Judge, digit_judge
from fastgan.metrics.coverage import ClassCoverage, class_coverage
from fastgan.metrics.digits import Comparison, DigitsReport, Scores, evaluate_digits
from fastgan.metrics.distances import frechet_distance, kernel_distance
from fastgan.metrics.histograms import Divergences, divergences, histogram_divergences
from fastgan.metrics.inception import inception_score
from fastgan.metrics.kernel_variance import kernel_distance_variance
from fastgan.metrics.nearest import Memorisation, memorisation, nearest_neighbours
from fastgan.metrics.patches import PatchDistance, PatchReport, evaluate_patches
from fastgan.metrics.precision_and_recall import density_coverage, precision_recall
from fastgan.metrics.pyramid import laplacian_pyramid
from fastgan.metrics.sliced_distance import sliced_wasserstein
from fastgan.metrics.stacked_digits import ModeCount, StackedDigitsReport, evaluate_stacked_digits

__all__ = [
    "ClassCoverage",
    "ClassificationAccuracy",
    "Comparison",
    "DigitClassifier",
    "DigitsReport",
    "Divergences",
    "Judge",
    "Memorisation",
    "ModeCount",
    "PatchDistance",
    "PatchReport",
    "Scores",
    "StackedDigitsReport",
    "class_coverage",
    "classification_accuracy_score",
    "density_coverage",
    "digit_judge",
    "divergences",
    "evaluate_digits",
    "evaluate_patches",
    "evaluate_stacked_digits",
    "frechet_distance",
    "histogram_divergences",
    "inception_score",
    "kernel_distance",
    "kernel_distance_variance",
    "laplacian_pyramid",
    "memorisation",
    "nearest_neighbours",
    "precision_recall",
    "sliced_wasserstein",
]
