"""How good samples are: distances to the data on any features, class coverage, and the report for the digits."""

from fastgan.metrics.classifier import DigitClassifier, Judge, digit_judge
from fastgan.metrics.coverage import ClassCoverage, class_coverage
from fastgan.metrics.digits import Comparison, DigitsReport, evaluate_digits
from fastgan.metrics.distances import frechet_distance, kernel_distance

__all__ = [
    "ClassCoverage",
    "Comparison",
    "DigitClassifier",
    "DigitsReport",
    "Judge",
    "class_coverage",
    "digit_judge",
    "evaluate_digits",
    "frechet_distance",
    "kernel_distance",
]
