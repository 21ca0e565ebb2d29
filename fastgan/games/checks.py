"""Checks of the numbers that methods take."""

import math


def count(method: str, name: str, value: float) -> int:
    """An integer of at least 1; also as a float, which is what the command line reads."""
    if isinstance(value, bool) or value % 1 != 0 or value < 1:
        raise ValueError(f"{method}: {name} is {value!r}, expected an integer of at least 1")
    return int(value)


def within(method: str, name: str, value: float, low: float, high: float = math.inf) -> float:
    """A finite number of at least `low` and at most `high`."""
    if not (math.isfinite(value) and low <= value <= high):
        upper = "" if high == math.inf else f" and at most {high:g}"
        raise ValueError(f"{method}: {name} is {value!r}, expected a number of at least {low:g}{upper}")
    return float(value)
