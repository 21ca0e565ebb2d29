"""Checks of the arguments of `critic_loss` and `gradient_penalty`, and of what the critic and the loss return."""

from collections.abc import Collection
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


def check_critic(owner: str, critic: Any) -> None:
    """Raises TypeError unless the critic can be called."""
    if not callable(critic):
        raise TypeError(f"{owner}: critic is {critic!r}, expected a module or a function of a batch")


def check_penalty(owner: str, name: str, value: Any) -> None:
    """Raises TypeError unless `value` is a penalty."""
    if isinstance(value, type) or not all(hasattr(value, part) for part in ("name", "at", "rho")):
        raise TypeError(f"{owner}: {name} is {value!r}, expected one of fastgan.penalties, such as R1(10.0)")


def check_penalties(owner: str, penalties: Any) -> None:
    """Raises TypeError unless it is a collection of penalties."""
    if not isinstance(penalties, Collection) or isinstance(penalties, str):
        raise TypeError(
            f"{owner}: penalties is {penalties!r}, expected a list or tuple of fastgan.penalties, such as (R1(10.0),), "
            "or () for none"
        )
    for i, penalty in enumerate(penalties):
        check_penalty(owner, f"penalties[{i}]", penalty)


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
