"""The averaged networks, which are the ones that sample."""

import torch
from torch import Tensor

from fastgan.tasks import Task


@torch.no_grad()
def move_averages(task: Task, decay: float, step: int) -> None:
    """Moves every average of a task towards its network, weights and buffers, after step number `step`, from 1 on.

    The decay, the share of the average that stays, is min(decay, (1 + step) / (10 + step)): short at first, so that the
    random initial weights are forgotten at once.

    Averaged generators: Karras et al. 2018, arXiv:1710.10196; the warm-up as in TensorFlow's ExponentialMovingAverage.
    """
    weight = 1 - min(decay, (1 + step) / (10 + step))
    for name, network in task.averages.items():
        current = task.generators[name]
        parameters: list[Tensor] = list(network.parameters())
        if parameters:
            torch._foreach_lerp_(parameters, list(current.parameters()), weight)
        for here, there in zip(network.buffers(), current.buffers(), strict=True):
            if here.is_floating_point():  # averages of batch norm; masks may be infinite, and stay as they are
                here.copy_(torch.where(here == there, here, torch.lerp(here, there, weight)))
            else:  # batch norm counts its batches
                here.copy_(there)
