"""The averaged networks, which are the ones that sample."""

import torch

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
        averaged, current = network.state_dict(), task.generators[name].state_dict()
        floating = [key for key, value in current.items() if value.is_floating_point()]
        torch._foreach_lerp_([averaged[key] for key in floating], [current[key] for key in floating], weight)
        for key in current.keys() - floating:  # batch norm counts its batches
            averaged[key].copy_(current[key])
