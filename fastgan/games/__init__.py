"""Optimisers of two-player games over any `torch.optim.Optimizer`s, listed by name in `GAMES`.

game = fastgan.games.ExtraAdam(critic.parameters(), generator.parameters(), lr=2e-4)
losses = game.step(fastgan.games.Closures(game, critic_closure, generator_closure))
"""

from fastgan.games.adam import ExtraAdam, OptimisticAdam
from fastgan.games.alternating import Alternating
from fastgan.games.closures import Closures
from fastgan.games.competitive import CompetitiveGradientDescent
from fastgan.games.consensus import Consensus
from fastgan.games.drift_correction import DriftCorrection
from fastgan.games.engine import Engine
from fastgan.games.extragradient import Extragradient, PastExtragradient
from fastgan.games.follow_the_ridge import FollowTheRidge
from fastgan.games.game import Game
from fastgan.games.lookahead import Lookahead
from fastgan.games.names import GAMES, Method, kind_of, parse
from fastgan.games.optimistic import Optimistic
from fastgan.games.runge_kutta import RungeKutta
from fastgan.games.simultaneous import Simultaneous
from fastgan.games.symplectic import SymplecticAdjustment
from fastgan.games.variance_reduced import VarianceReducedExtragradient

__all__ = [
    "GAMES",
    "Alternating",
    "Closures",
    "CompetitiveGradientDescent",
    "Consensus",
    "DriftCorrection",
    "Engine",
    "ExtraAdam",
    "Extragradient",
    "FollowTheRidge",
    "Game",
    "Lookahead",
    "Method",
    "Optimistic",
    "OptimisticAdam",
    "PastExtragradient",
    "RungeKutta",
    "Simultaneous",
    "SymplecticAdjustment",
    "VarianceReducedExtragradient",
    "kind_of",
    "parse",
]
