"""Numbers that move while a run goes on: {from: 0.3, to: 0, over: 3000, shape: linear, after: 0} in a recipe."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SHAPES = ("linear", "cosine", "exponential")


@dataclass(frozen=True)
class Schedule:
    """A number that goes from one value to another, and stays there.

    Args:
        start: the value at first; `from` in a recipe.
        to: the value at last.
        over: steps that it takes, at least 1.
        shape: `linear`; `cosine`, slow at both ends; `exponential`, by equal factors, of two numbers above 0.
        after: steps before it begins to move.

    Raises:
        ValueError: a value is out of range.
    """

    start: float
    to: float
    over: int
    shape: str = "linear"
    after: int = 0

    def __post_init__(self) -> None:
        for name, steps, least in (("over", self.over, 1), ("after", self.after, 0)):
            if isinstance(steps, bool) or not isinstance(steps, int) or steps < least:
                raise ValueError(f"{name} is {steps!r}, expected a whole number of at least {least}")
        if self.shape not in SHAPES:
            raise ValueError(f"shape is {self.shape!r}, expected one of {', '.join(SHAPES)}")
        if self.shape == "exponential" and not (self.start > 0 and self.to > 0):
            raise ValueError(f"from is {self.start:g} and to {self.to:g}, expected two numbers above 0: exponential")

    def at(self, step: int) -> float:
        """The number after so many steps."""
        share = min(1.0, max(0, step - self.after) / self.over)
        if self.shape == "exponential":
            return self.start * (self.to / self.start) ** share
        if self.shape == "cosine":
            share = (1 - math.cos(math.pi * share)) / 2
        return self.start + (self.to - self.start) * share

    def as_written(self) -> dict[str, Any]:
        """As in a recipe."""
        return {"from": self.start, "to": self.to, "over": self.over, "shape": self.shape, "after": self.after}

    @classmethod
    def read(cls, written: Mapping[str, Any]) -> "Schedule":
        """From a recipe.

        Raises:
            ValueError: a key is missing or unknown, or a value out of range.
        """
        needed, others = {"from", "to", "over"}, {"shape", "after"}
        if not needed <= written.keys() <= needed | others:
            raise ValueError("expected the keys from, to, over, and if need be shape and after")
        start, to = (real(written[name]) for name in ("from", "to"))
        return cls(start, to, written["over"], written.get("shape", "linear"), written.get("after", 0))


Number = float | Schedule
"""A setting that may follow a schedule."""


def value_at(number: Number, step: int) -> float:
    """A number after so many steps, whether it moves or not."""
    return number.at(step) if isinstance(number, Schedule) else number


def ends(number: Number) -> tuple[float, ...]:
    """The values between which a number stays."""
    return (number.start, number.to) if isinstance(number, Schedule) else (number,)


def real(value: Any) -> float:
    """A finite number; from text too, as YAML reads 2e-4 as text.

    Raises:
        ValueError: it is none.
    """
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError("expected a number")
    return number
