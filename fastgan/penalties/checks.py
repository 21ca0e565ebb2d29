"""Checks of the arguments of `critic_loss` and `gradient_penalty`, and of what the critic and the loss return."""

from typing import Any

from torch import Tensor

from fastgan.ops._common.checks import check_floating

REDUCTIONS = ("sum", "mean")


def check_samples(owner: str, **tensors: Tensor) -> None:
    """Raises TypeError or ValueError unless each tensor is floating point with a batch dimension."""
    for name, x in tensors.items():
        check_floating(owner, name, x)
        if x.ndim < 1:
            raise ValueError(f"{owner}: {name} has no dimensions, expected [samples, ...]")


def check_scalar(owner: str, loss: Any) -> None:
    """Raises ValueError unless an objective returned a tensor of one number."""
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        what = f"shape {list(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(f"{owner}: loss returned {what}, expected a scalar tensor")


def check_reduction(owner: str, reduce: str) -> None:
    if reduce not in REDUCTIONS:
        raise ValueError(f"{owner}: reduce is {reduce!r}, expected one of {', '.join(REDUCTIONS)}")


def arguments(labels: Any) -> tuple:
    """`labels` as the critic's arguments after the samples: none for None, those of a tuple, else one."""
    if labels is None:
        return ()
    return labels if isinstance(labels, tuple) else (labels,)
