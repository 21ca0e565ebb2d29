"""Steps of random critics: what networks do to a batch, piecewise affine and not, with random settings."""

from tests.penalties.steps import arithmetic, layers, moves, piecewise, positions, refused, traps
from tests.penalties.steps.base import CLASSES, INELIGIBLE, STEPS, Step

__all__ = [
    "CLASSES",
    "INELIGIBLE",
    "STEPS",
    "Step",
    "arithmetic",
    "layers",
    "moves",
    "piecewise",
    "positions",
    "refused",
    "traps",
]
