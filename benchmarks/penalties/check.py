"""Checks a step's gradients against float64, on the very inputs that are timed.

The truth is the textbook in float64 on the same (rounded) numbers. The critic's gradients as one vector, and the fakes'
where there are any, may each be as far from it as twice the eager textbook in the same dtype, or ROUNDINGS units of
rounding. What torch.compile makes rounds activations differently, so that others of those near zero change their sign;
so do fastgan's convolutions where the forward pass is theirs (with other seeds it is the textbook that is off by 1e-4
on r3gan-32, where ours is off by 3e-7), and interpolates that are rounded differently (WGAN-GP's, one unit in the last
place). Those are allowed OTHER_SIGNS.

A check of the whole gradient sees a wrong part only if that part counts: `visible`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.penalties.case import Subject

ROUNDINGS = 16
OTHER_SIGNS = 5e-4
"""An activation in a few million with the other slope moves the gradient by up to 2e-4 in these critics."""
LEAST_SHARE = 0.03
"""Of the gradient that the loss and the penalties must each make up, for the check to see that one is missing."""

Gradients = list[Tensor]
"""The critic's as one vector and, if a step has them, those of the fakes."""


def take(step: Callable[[Subject], None], subject: Subject) -> list[Tensor | None]:
    """The step as it is timed: its gradients are its result, and nothing of it stays behind."""
    step(subject)
    found = [p.grad for p in subject.critic.parameters()]
    found.append(subject.fake.grad)
    subject.clear()
    return found


def gradients(step: Callable[[Subject], None], subject: Subject) -> Gradients:
    """The gradients of a step from the subject's initial state, in float64."""
    subject.reset()
    *critic, fake = take(step, subject)
    wanted = zip(critic, subject.critic.parameters(), strict=True)
    vector = torch.cat([(torch.zeros_like(p) if g is None else g).flatten().double() for g, p in wanted])
    return [vector] if fake is None else [vector, fake.double()]


def errors(found: Gradients, truth: Gradients) -> list[float]:
    """The relative error of each vector; infinite for what is missing or not finite."""
    if len(found) != len(truth):
        return [float("inf")] * len(truth)
    relative = [((f - t).norm() / t.norm()).item() for f, t in zip(found, truth, strict=True)]
    return [e if e < float("inf") else float("inf") for e in relative]  # a NaN compares as False


def complaint(found: list[float], yardstick: list[float], dtype: torch.dtype, otherwise: bool = False) -> str | None:
    """What is wrong with these errors, or None. `otherwise`: activations or points were rounded otherwise."""
    for what, error, known in zip(("critic's", "fakes'"), found, yardstick, strict=False):
        allowed = max(2 * known, ROUNDINGS * torch.finfo(dtype).eps, OTHER_SIGNS if otherwise else 0)
        if not error <= allowed:
            return f"the {what} gradient is wrong: relative error {error:.2g}, allowed are {allowed:.2g}"
    return None


def visible(whole: Gradients, loss: Gradients) -> bool:
    """Whether a step that left out the penalties, or the loss, would be seen to be wrong."""
    size = whole[0].norm()
    shares = (loss[0].norm() / size).item(), ((whole[0] - loss[0]).norm() / size).item()
    return min(shares) >= LEAST_SHARE
