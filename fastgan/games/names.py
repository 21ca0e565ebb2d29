"""`GAMES`: every game optimiser by its name on the command line."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch.optim import Optimizer

from fastgan.errors import nearest
from fastgan.games.alternating import Alternating
from fastgan.games.competitive import CompetitiveGradientDescent
from fastgan.games.consensus import Consensus
from fastgan.games.drift_correction import DriftCorrection
from fastgan.games.extragradient import Extragradient, PastExtragradient
from fastgan.games.follow_the_ridge import FollowTheRidge
from fastgan.games.game import Game
from fastgan.games.lookahead import Lookahead
from fastgan.games.optimistic import Optimistic
from fastgan.games.runge_kutta import RungeKutta
from fastgan.games.simultaneous import Simultaneous
from fastgan.games.symplectic import SymplecticAdjustment
from fastgan.games.variance_reduced import VarianceReducedExtragradient

GAMES: dict[str, type[Game]] = {
    kind.name: kind
    for kind in (
        Alternating,
        Simultaneous,
        Extragradient,
        PastExtragradient,
        Optimistic,
        VarianceReducedExtragradient,
        Lookahead,
        Consensus,
        SymplecticAdjustment,
        CompetitiveGradientDescent,
        FollowTheRidge,
        RungeKutta,
        DriftCorrection,
    )
}
"""Every method by its name."""

Method = Callable[[Optimizer, Optimizer], Game]


def kind_of(text: str) -> type[Game]:
    """The class of the game that `parse` would build.

    Raises:
        ValueError: there is no such method.
    """
    name = text.partition(":")[0]
    if name not in GAMES:
        raise ValueError(f"{text!r}, expected {nearest(name, GAMES)}")
    return GAMES[name]


def parse(text: str) -> Method:
    """`extragradient`, or with the method's settings in their order: `consensus:1`, `lookahead:5:0.5`.

    Returns:
        What makes the game of two optimisers.

    Raises:
        ValueError: there is no such method, it has fewer settings, or one of them is not a number.
    """
    kind = kind_of(text)
    name, *values = text.split(":")
    if len(values) > len(kind.settings):
        known = ":".join([name, *kind.settings])
        raise ValueError(f"{text!r} has {len(values)} settings, expected at most {len(kind.settings)}: {known}")
    try:
        settings: dict[str, Any] = dict(zip(kind.settings, map(float, values), strict=False))
    except ValueError:
        raise ValueError(f"{text!r}, expected numbers after the name: {':'.join([name, *kind.settings])}") from None
    return partial(kind, **settings)
