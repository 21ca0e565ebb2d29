"""The registry of operations and their arguments: a tensor to work on, and a `Growth` to ask for more.

An operation returns the expression of its result, or an `Out` where there is more to say, or None where it does not
fit. It writes source text, so that a failing program can be printed as it ran.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

CLASSES = 4


@dataclass(frozen=True)
class Live:
    """A tensor of the program.

    Attributes:
        name: its variable.
        shape: for the batch of real samples.
        dim, folded: the samples lie along this dimension, `folded` neighbouring indices belonging to each.
        constant: whether it has no gradient.
    """

    name: str
    shape: tuple[int, ...]
    dim: int = 0
    folded: int = 1
    constant: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def channels(self) -> int:
        return self.shape[1]

    @property
    def plain(self) -> bool:
        """[samples, channels, ...]."""
        return self.dim == 0 and self.folded == 1 and self.ndim >= 2


@dataclass(frozen=True)
class Out:
    """What an operation writes.

    Attributes:
        code: the expression of the result, or of several.
        before: statements in front of it.
        names: how many results the expression has.
        dim, folded: where the samples are; None: where they were in the input.
    """

    code: str
    before: tuple[str, ...] = ()
    names: int = 1
    dim: int | None = None
    folded: int | None = None


@dataclass(frozen=True)
class Operation:
    """A kind of step; `eligible`: piecewise affine sample by sample, and known to be."""

    name: str
    family: str
    write: Callable[[Any, Live], Out | str | None]
    fits: Callable[[Live], bool]
    eligible: bool
    weight: float


OPERATIONS: dict[str, Operation] = {}
HEADS: dict[str, Operation] = {}

_FITS: dict[str, Callable[[Live], bool]] = {
    "any": lambda h: True,
    "plain": lambda h: h.plain,
    "vector": lambda h: h.plain and h.ndim == 2,
    "positions": lambda h: h.plain and h.ndim >= 3,
    "sequence": lambda h: h.plain and h.ndim == 3,
    "image": lambda h: h.plain and h.ndim == 4,
    "moved": lambda h: h.dim != 0,
    "folded": lambda h: h.dim == 0 and h.folded > 1,
}


def operation(
    fits: str = "plain", *, eligible: bool = True, weight: float = 1.0, into: dict[str, Operation] = OPERATIONS
) -> Callable[[Callable], Callable]:
    """Lists a function as an operation on tensors of a kind."""

    def register(write: Callable) -> Callable:
        name = write.__name__.rstrip("_")
        assert name not in into, name
        into[name] = Operation(name, write.__module__.rsplit(".", 1)[-1], write, _FITS[fits], eligible, weight)
        return write

    return register


def ones(n: int) -> str:
    """The sizes of n dimensions of size 1, as further arguments of view."""
    return "".join([", 1"] * n)


def sizes(shape: Sequence[int]) -> str:
    """A shape as arguments."""
    return ", ".join(map(str, shape))
