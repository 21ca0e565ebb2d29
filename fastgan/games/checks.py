"""Checks of the numbers that methods take."""

import math


def at_least(method: str, name: str, value: float, least: int) -> int:
    """An integer of at least `least`."""
    if isinstance(value, bool) or value != int(value) or value < least:
        raise ValueError(f"{method}: {name} is {value!r}, expected an integer of at least {least}")
    return int(value)


def within(method: str, name: str, value: float, low: float, high: float = math.inf) -> float:
    """A finite number of at least `low` and at most `high`."""
    if not (math.isfinite(value) and low <= value <= high):
        upper = "" if high == math.inf else f" and at most {high:g}"
        raise ValueError(f"{method}: {name} is {value!r}, expected a number of at least {low:g}{upper}")
    return float(value)
