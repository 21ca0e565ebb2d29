"""`UserError`, for input that a person can correct."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input, said in one line: which argument, what came and what was expected.

    The command line prints the message without a traceback and exits with status 2.
    """


UNBUILDABLE = (TypeError, ValueError, RuntimeError, MemoryError, OverflowError)
"""What PyTorch raises where a network cannot be built of its numbers."""


def shown(value: object) -> str:
    """A value as Python writes it, shortened to be part of a line."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:150]}... ({len(text)} characters)"


def one_line(error: BaseException) -> str:
    """An exception's message, shortened to be part of a line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def nearest(name: str, known: Iterable[str]) -> str:
    """What is expected in the place of a name: the one that is most like it, then all."""
    known = list(known)
    close = difflib.get_close_matches(name, known, 1)
    return f"{close[0]!r}, or another of {', '.join(known)}" if close else f"one of {', '.join(known)}"


def wrong(name: str, value: object, expected: str) -> UserError:
    """The error for a setting by its name, as `task.loss` or `--frames`."""
    return UserError(f"{name} is {shown(value)}, expected {expected}")
