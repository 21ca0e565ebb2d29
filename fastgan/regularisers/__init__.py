"""Regularisers that are no penalties of the critic's input gradient: functions of parameters and losses."""

from fastgan.regularisers.clip_weights import clip_weights_
from fastgan.regularisers.parameter_gradient import parameter_gradient

__all__ = ["clip_weights_", "parameter_gradient"]
