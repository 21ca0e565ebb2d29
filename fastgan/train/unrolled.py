"""The generators' losses under the critics as they will be some steps later (Metz et al. 2017, arXiv:1611.02163)."""

from collections.abc import Iterator

import torch
from torch.func import functional_call

from fastgan.games import Game
from fastgan.tasks import Batch, Now, Part, Side, Task
from fastgan.train.engine import Parts
from fastgan.unrolling import SGD, Adam, InnerOptimizer, steps_ahead


def unrolled_parts(task: Task, game: Game, steps: int) -> Parts:
    """The terms of a side's loss; the generators' as one, differentiable through steps of the critics on its batch.

    The steps are those that the critics' optimiser would make next, all on the same data and samples as in the authors'
    code; critics and optimiser stay as they are.

    Args:
        task: whose critics' loss can be differentiated twice.
        game: whose critics' optimiser is followed.
        steps: K, at least 1.
    """

    def parts(side: Side, batch: Batch, now: Now) -> Iterator[Part]:
        if side == "critic":
            yield from task.critic_parts(batch, now)
            return
        # Leaves of their own: gradients end here instead of in the critics' parameters.
        critics = {f"critics.{name}": p.detach().requires_grad_() for name, p in task.critics.named_parameters()}
        # Batch norm and spectral norm move their buffers, in place: those of the unrolled critics go their own way.
        buffers = {name: buffer.clone() for name, buffer in task.named_buffers()}
        ahead = steps_ahead(
            critics,
            lambda moved: functional_call(task, {**moved, **buffers}, ("critic", batch, now._replace(twice=True))).loss,
            steps,
            _next_steps(task, game),
        )
        of_critics = {name: buffer for name, buffer in buffers.items() if name.startswith("critics.")}
        yield functional_call(task, {**ahead, **of_critics}, ("generator", batch, now))

    return parts


def _next_steps(task: Task, game: Game) -> InnerOptimizer:
    optimizer = game.critic.optimizer
    if isinstance(optimizer, torch.optim.Adam):
        # From fresh averages Adam steps by signs, whose derivative is 0 or next to infinite.
        return Adam.continuing(optimizer, task)
    return SGD(optimizer.param_groups[0]["lr"])
