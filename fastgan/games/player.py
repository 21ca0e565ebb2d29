"""One side of a game: parameters, the torch optimiser that moves them, and how its gradient is taken."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

Closure = Callable[[], Tensor]
"""Returns a player's loss, a scalar."""


class Player:
    """One side of a game.

    Attributes:
        who: `critic` or `generator`, for messages.
        optimizer: what turns gradients into steps.
    """

    def __init__(self, who: str, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{who} is {type(optimizer).__name__}, expected a torch.optim.Optimizer of its parameters")
        self.who, self.optimizer = who, optimizer
        if not self.parameters:
            raise ValueError(f"{who}: none of the optimizer's parameters requires a gradient, expected at least one")

    @property
    def parameters(self) -> list[Tensor]:
        """Those of the optimiser that require a gradient, as its param groups are now."""
        return [p for group in self.optimizer.param_groups for p in group["params"] if p.requires_grad]

    def check_plain(self, method: str) -> None:
        """Raises TypeError unless a step is minus the learning rate times the gradient."""
        groups = self.optimizer.param_groups
        if type(self.optimizer) is not SGD or any(g["momentum"] or g["weight_decay"] or g["maximize"] for g in groups):
            raise TypeError(
                f"{method}: the optimizer of the {self.who} is {type(self.optimizer).__name__}, expected SGD without "
                "momentum and weight decay: the method solves for steps of that form"
            )

    @property
    def learning_rates(self) -> list[float]:
        """One for each parameter."""
        return [float(group["lr"]) for group in self.optimizer.param_groups for p in group["params"] if p.requires_grad]

    def differentiate(self, closure: Closure, opponent: "Player") -> Tensor:
        """Leaves the gradient of the closure's loss in `.grad`, the opponent held constant; returns the loss."""
        self.optimizer.zero_grad()
        with torch.enable_grad(), frozen(opponent.parameters):
            loss = self.loss(closure)
            loss.backward()
        return loss.detach()

    def loss(self, closure: Closure) -> Tensor:
        """What the closure returns, checked."""
        # An autocast around the whole step keeps copies of the weights, which may have moved since.
        torch.clear_autocast_cache()
        loss: Any = closure()
        if not isinstance(loss, Tensor):
            raise TypeError(f"the closure of the {self.who} returned {type(loss).__name__}, expected a scalar tensor")
        if loss.numel() != 1:
            raise ValueError(f"the closure of the {self.who} returned shape {list(loss.shape)}, expected a scalar")
        if not loss.requires_grad:
            raise ValueError(
                f"the closure of the {self.who} returned a constant, expected a loss that depends on its parameters"
            )
        return loss

    def gradients(self) -> list[Tensor]:
        """Copies of `.grad`, zeros where there is none; dense ones of sparse gradients."""
        return [torch.zeros_like(p) if p.grad is None else _dense_copy(p.grad) for p in self.parameters]

    def descend_along(self, gradients: list[Tensor]) -> None:
        """One step of the optimiser along these."""
        for p, gradient in zip(self.parameters, gradients, strict=True):
            # Fused Adam reads a gradient as if it lay in memory like its parameter; backward() sees to that, but
            # autograd.grad returns whatever layout the derivative came in.
            p.grad = gradient if gradient.stride() == p.stride() else torch.empty_like(p).copy_(gradient)
        self.optimizer.step()


def _dense_copy(gradient: Tensor) -> Tensor:
    found = gradient.detach()
    return found.to_dense() if found.is_sparse else found.clone()


@contextmanager
def frozen(parameters: Iterable[Tensor]) -> Iterator[None]:
    """Inside, no gradient is computed for these: a constant opponent costs nothing."""
    held = [p for p in parameters if p.requires_grad]
    for p in held:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in held:
            p.requires_grad_(True)
