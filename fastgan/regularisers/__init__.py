"""Regularisers that are no penalties of the critic's input gradient: functions of parameters and losses."""

from fastgan.regularisers.clip_weights import clip_weights_

__all__ = ["clip_weights_"]
