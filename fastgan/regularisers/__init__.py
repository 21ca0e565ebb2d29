"""Regularisers that are no penalties of the critic's input gradient: functions of parameters and losses."""

from fastgan.regularisers.clip_weights import clip_weights_
from fastgan.regularisers.orthogonal import add_orthogonal_gradient_, orthogonal
from fastgan.regularisers.parameter_gradient import parameter_gradient

__all__ = ["add_orthogonal_gradient_", "clip_weights_", "orthogonal", "parameter_gradient"]
