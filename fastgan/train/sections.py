"""Sections of settings: pydantic models whose errors are one line that names the setting, the value and what fits."""

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, PlainValidator, ValidationError

from fastgan.errors import UserError, nearest, shown
from fastgan.train.schedules import Number, Schedule, ends, real


class Section(BaseModel):
    """Settings that belong together: unknown ones are refused, and none changes once it is read."""

    # A setting's docstring is what `fastgan recipes show` says of it.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


Real = Annotated[float, BeforeValidator(real)]
"""A finite number; text that is one counts, as YAML reads 2e-4 as text."""


def _moving(low: float, high: float, open_low: bool, open_high: bool) -> Callable[[Any], Number]:
    least = f"above {low:g}" if open_low else f"at least {low:g}"
    most = "" if high == math.inf else f" and {'below' if open_high else 'at most'} {high:g}"

    def read(value: Any) -> Number:
        known = value if isinstance(value, Schedule) else None
        number = known or (Schedule.read(value) if isinstance(value, Mapping) else real(value))
        first, *_ = ends(number)
        inside = all(low <= end and (end < high if open_high else end <= high) for end in ends(number))
        if not inside or (open_low and first == low):
            raise ValueError(f"expected a number, {least}{most}")
        return number

    return read


def moving(low: float, high: float = math.inf, *, open_low: bool = False, open_high: bool = False) -> Any:
    """The type of a setting that may follow a schedule, all of it between two numbers.

    With `open_low` it does not begin with the lower one, at which a schedule may end.
    """
    written = PlainSerializer(lambda number: number.as_written() if isinstance(number, Schedule) else number)
    return Annotated[Any, PlainValidator(_moving(low, high, open_low, open_high)), written]


def checked(kind: type[BaseModel], values: Mapping[str, Any], place: str = "") -> Any:
    """A model of these values.

    Args:
        kind: of which the values are settings.
        values: by name.
        place: before the names in messages, with a dot at its end.

    Raises:
        UserError: a value does not fit, a name is unknown or missing.
    """
    try:
        return kind(**values)
    except ValidationError as error:
        raise UserError("; ".join(_said(kind, found, place) for found in error.errors())) from None


def _said(kind: type[BaseModel], error: Any, place: str) -> str:
    path = [str(part) for part in error["loc"]]
    name = place + ".".join(path)
    if error["type"] == "extra_forbidden":
        return f"{name} is no setting, expected {nearest(path[-1], _names(kind, path[:-1]))}"
    if error["type"] == "missing":
        return f"{name} is missing"
    message = error["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    return f"{name} is {shown(error['input'])}, {message}"


def _names(kind: Any, path: list[str]) -> list[str]:
    for part in path:
        kind = kind.model_fields[part].annotation
    return list(kind.model_fields)
