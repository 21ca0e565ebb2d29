"""The averaged generator, which is the one that samples."""

import copy

import torch
from torch import nn


class MovingAverage:
    """An exponential moving average of a network's weights and buffers.

    After step t (from 1) the decay is min(decay, (1 + t) / (10 + t)): short at first, so that the random initial
    weights are forgotten at once, and never longer than asked for.

    Args:
        source: the network; its copy `network` is in evaluation mode and takes no gradients.
        decay: the share of the average that a step keeps, at least 0 and below 1.

    The decay of the averaged generator: Karras et al. 2018, arXiv:1710.10196; its warm-up as in TensorFlow's
    ExponentialMovingAverage.
    """

    def __init__(self, source: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(source).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, source: nn.Module, step: int) -> None:
        """Moves the average towards `source` after step number `step`, counted from 1."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        averaged, current = self.network.state_dict(), source.state_dict()
        floating = [name for name, value in current.items() if value.is_floating_point()]
        torch._foreach_lerp_([averaged[n] for n in floating], [current[n] for n in floating], weight)
        for name in current.keys() - floating:  # batch norm counts its batches
            averaged[name].copy_(current[name])
