"""The arguments of `critic_loss` and `gradient_penalty`, and what the caller's functions return."""

from typing import Any

from torch import Tensor

from fastgan.ops._common.checks import check_floating

METHODS = ("auto", "one_pass", "double_backward")


def check_samples(owner: str, **tensors: Tensor) -> None:
    """Raises TypeError or ValueError for what is no batch of floating-point samples."""
    for name, x in tensors.items():
        check_floating(owner, name, x)
        if x.ndim < 1:
            raise ValueError(f"{owner}: {name} has no dimensions, expected [samples, ...]")


def check_method(owner: str, method: str) -> None:
    if method not in METHODS:
        raise ValueError(f"{owner}: method is {method!r}, expected one of {', '.join(METHODS)}")


def check_scalar(owner: str, loss: Any) -> None:
    """Raises ValueError for an objective that is not one number."""
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        what = f"shape {list(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(f"{owner}: loss returned {what}, expected a scalar tensor")


def one_tensor(output: Any) -> Tensor:
    """A critic's output; raises TypeError for several of them."""
    if not isinstance(output, Tensor):
        what = f"{type(output).__name__} of {len(output)}" if hasattr(output, "__len__") else type(output).__name__
        raise TypeError(
            f"critic: it returned a {what}, expected one tensor; give a function that picks the output which is "
            "penalised, such as lambda x: critic(x)[0]"
        )
    return output


def arguments(labels: Any) -> tuple:
    """The critic's arguments after the samples."""
    if labels is None:
        return ()
    return labels if isinstance(labels, tuple) else (labels,)
