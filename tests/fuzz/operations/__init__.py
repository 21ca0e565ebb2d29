"""The operations that random critics are made of, a file for each family."""

from tests.fuzz.operations import (
    activations,
    arithmetic,
    attention,
    autograd,
    constants,
    heads,
    hooks,
    in_place,
    layers,
    mixing,
    positions,
    samples,
    state,
    views,
    weights,
)
from tests.fuzz.operations.heads import OUTPUTS
from tests.fuzz.operations.registry import CLASSES, HEADS, OPERATIONS, Live, Operation, Out

__all__ = [
    "CLASSES",
    "HEADS",
    "OPERATIONS",
    "OUTPUTS",
    "Live",
    "Operation",
    "Out",
    "activations",
    "arithmetic",
    "attention",
    "autograd",
    "constants",
    "heads",
    "hooks",
    "in_place",
    "layers",
    "mixing",
    "positions",
    "samples",
    "state",
    "views",
    "weights",
]
