"""`Lazily`: a term of a loss that is taken every few steps."""

from typing import NamedTuple


class Lazily(NamedTuple):
    """A term that is due every k steps, and weighs k times as much then (Karras et al. 2020, arXiv:1912.04958).

    There it takes optimiser steps of its own; here it is part of an ordinary one.

    Attributes:
        weight: on average over all steps; 0 for no such term.
        every: k.
    """

    weight: float = 0.0
    every: int = 1


NEVER = Lazily()
