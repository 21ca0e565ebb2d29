"""Names of settings as on the command line, and the error for a wrong value."""

from typing import Any

from fastgan.errors import UserError


def option(name: str) -> str:
    """An attribute's name as on the command line: batch_size -> --batch-size."""
    return "--" + name.replace("_", "-")


def wrong(name: str, value: object, expected: str) -> UserError:
    """The `UserError` for an attribute with a wrong value."""
    return UserError(f"{option(name)} is {value!r}, expected {expected}")


def check_one_of(name: str, value: str, known: dict[str, Any]) -> None:
    """Raises UserError unless the value is one of these."""
    if value not in known:
        raise wrong(name, value, f"one of {', '.join(known)}")
