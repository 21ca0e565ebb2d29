"""Checks of the numbers that game optimisers take."""

import math


def count(method: str, name: str, value: float) -> int:
    """Returns `value` as an integer; raises unless it is one of at least 1 (floats such as 5.0 are taken)."""
    if isinstance(value, bool) or value % 1 != 0 or value < 1:
        raise ValueError(f"{method}: {name} is {value!r}, expected an integer of at least 1")
    return int(value)


def within(method: str, name: str, value: float, low: float, high: float = math.inf) -> float:
    """Returns the number; raises unless it is finite, at least `low` and at most `high`."""
    if not (math.isfinite(value) and low <= value <= high):
        upper = "" if high == math.inf else f" and at most {high:g}"
        raise ValueError(f"{method}: {name} is {value!r}, expected a number of at least {low:g}{upper}")
    return float(value)
