"""What a run regularises its players by, and how seldom."""

from collections.abc import Sequence
from dataclasses import dataclass

from fastgan.penalties import Penalty


@dataclass(frozen=True)
class Regularisation:
    """What the players' objectives are regularised by, and how seldom.

    With an interval of k steps a regulariser weighs k times as much in one step of k and nothing in the others (lazy
    regularisation: Karras et al. 2020, arXiv:1912.04958, section 3.1). There it takes optimiser steps of its own; here
    it is part of an ordinary one, so that a penalty can share the step's passes through the critic.

    Attributes:
        penalties: of the critic's gradient.
        penalty_every: their interval.
        path_length: weight of the path-length regularisation of the generator, 0 for none.
        path_length_every: its interval.
        orthogonal: strength of the orthogonal regularisation of the generator's weights, in every step; 0 for none.
        unroll: steps of the critic through which the generator is judged; 0 for the critic as it is.
    """

    penalties: Sequence[Penalty] = ()
    penalty_every: int = 1
    path_length: float = 0.0
    path_length_every: int = 1
    orthogonal: float = 0.0
    unroll: int = 0


NO_REGULARISATION = Regularisation()
