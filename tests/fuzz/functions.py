"""Custom autograd functions and callables that programs use by name."""

from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "Called",
    "Reversal",
    "ReversalInPlace",
    "Rounding",
    "Scaled",
    "Slotted",
    "StraightThrough",
    "applied",
    "halve",
    "through",
]


class Reversal(torch.autograd.Function):
    """The identity forward, minus the gradient backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return -grad


class ReversalInPlace(torch.autograd.Function):
    """The same without a single operation in forward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return -grad


class StraightThrough(torch.autograd.Function):
    """Rounds forward, the identity backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (4 * x).round() / 4

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


class Rounding(torch.autograd.Function):
    """The same, whose result is that of an operation without a derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


class Scaled(torch.autograd.Function):
    """x times a weight, with both gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x * weight

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return (grad * weight).sum_to_size(x.shape), (grad * x).sum_to_size(weight.shape)


class Called:
    """An object that is called, with the critic in an attribute."""

    def __init__(self, critic: nn.Module) -> None:
        self.critic = critic

    def __call__(self, *args: Any) -> Tensor:
        return self.critic(*args)

    def judge(self, *args: Any) -> Tensor:
        return self.critic(*args)


class Slotted:
    """The same, to which no weak reference can be held."""

    __slots__ = ("parts",)

    def __init__(self, critic: nn.Module) -> None:
        self.parts = [critic]

    def __call__(self, *args: Any) -> Tensor:
        return self.parts[0](*args)


def applied(critic: nn.Module, *args: Any) -> Tensor:
    """For functools.partial."""
    return critic(*args)


def through(networks: dict[str, nn.Module]) -> Any:
    """A function that finds the critic in a dictionary of its closure."""

    def judge(*args: Any) -> Tensor:
        return networks["critic"](*args)

    return judge


def halve(parameter: Tensor) -> None:
    """For a parameter whose gradient has arrived, if it has one."""
    if parameter.grad is not None:
        parameter.grad.mul_(0.5)
