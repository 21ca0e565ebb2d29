"""Runs the original function for calls that fastgan's op does not take, and warns once; raises without an original."""

import warnings
from collections.abc import Callable
from typing import Any


class Fallback:
    """Called by a replacement for arguments that its op does not support.

    Args:
        name: the full name of what was replaced.
        original: the function that had it; None where its module was never imported.
    """

    def __init__(self, name: str, original: Callable[..., Any] | None) -> None:
        self.name, self.original = name, original
        self._said: set[str] = set()

    def __call__(self, argument: str, what: object, expected: str) -> Callable[..., Any]:
        """The original, for an argument that is `what`.

        Raises:
            ValueError: there is none.
        """
        message = f"{self.name}: {argument} is {what}, and fastgan takes {expected}"
        if self.original is None:
            raise ValueError(f"{message}; the original is not there to take the call: its import would compile it")
        if argument not in self._said:
            self._said.add(argument)
            warnings.warn(f"{message}: the original runs instead", RuntimeWarning, stacklevel=3)
        return self.original


def kind(x: object) -> object:
    """The description of an argument, in messages that expected a floating-point tensor."""
    return getattr(x, "dtype", type(x).__name__)
