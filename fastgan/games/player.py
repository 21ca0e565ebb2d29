"""One side of a game: parameters, the torch optimiser that moves them, and what it minimises."""

import inspect
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from fastgan.games.decay import added_decay
from fastgan.games.vectors import Vector
from fastgan.tasks.task import Side


class Player:
    """One side of a game.

    A player minimises its loss, or the negative of it where the optimiser says `maximize`, with an L2 term where the
    optimiser has a weight decay that it adds to the gradient. Methods that take gradients at other places than those
    from which they step, or derivatives of gradients, are of that whole objective.

    Attributes:
        who: `critic` or `generator`, for messages.
        optimizer: what turns gradients into steps.
    """

    def __init__(self, who: Side, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{who} is {type(optimizer).__name__}, expected a torch.optim.Optimizer of its parameters")
        closure = inspect.signature(optimizer.step).parameters.get("closure")
        if closure is not None and closure.default is inspect.Parameter.empty:
            raise TypeError(
                f"{who} is {type(optimizer).__name__}, whose step calls a closure of its own, expected an optimizer "
                "that steps along the gradients it is given"
            )
        self.who: Side = who
        self.optimizer = optimizer
        if not self.parameters:
            raise ValueError(f"{who}: none of the optimizer's parameters requires a gradient, expected at least one")

    @property
    def parameters(self) -> list[Tensor]:
        """The optimiser's parameters that require a gradient, as its param groups are now."""
        return [p for p, _ in self._grouped()]

    def _grouped(self) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        for group in self.optimizer.param_groups:
            for p in group["params"]:
                if p.requires_grad:
                    yield p, group

    def check_plain(self, method: str) -> None:
        """Raises TypeError unless a step is minus the learning rate times the gradient of the objective."""
        if type(self.optimizer) is not SGD or any(group["momentum"] for group in self.optimizer.param_groups):
            raise TypeError(
                f"{method}: the optimizer of the {self.who} is {type(self.optimizer).__name__}, expected SGD without "
                "momentum: the method solves for steps of that form"
            )

    @property
    def learning_rates(self) -> list[float]:
        """The learning rate of each parameter."""
        return [float(group["lr"]) for _, group in self._grouped()]

    def _decay(self, group: dict[str, Any]) -> float:
        """The weight-decay coefficient of a param group."""
        return added_decay(self.who, self.optimizer, group)

    def objective(self, loss: Tensor, reached: set[int]) -> Tensor:
        """The player's objective (its loss and weight decay), to be differentiated twice.

        Args:
            loss: of the player, with its graph.
            reached: the ids of the parameters that it depends on; the others do not decay.

        Raises:
            TypeError: the optimizer maximises in some of its param groups and minimises in others.
        """
        maximised = {bool(group.get("maximize")) for _, group in self._grouped()}
        if len(maximised) > 1:
            raise TypeError(
                f"{self.who}: maximize is set in some of the optimizer's param groups, expected it in all or in none"
            )
        decays = [(p, self._decay(group)) for p, group in self._grouped() if id(p) in reached]
        terms = [decay / 2 * p.square().sum() for p, decay in decays if decay]
        return sum(terms, -loss if maximised == {True} else loss)

    def loss_gradients(self) -> Vector:
        """Copies of `.grad`, zeros where there is none, dense ones of sparse; their negatives under `maximize`."""
        found = []
        for p, group in self._grouped():
            gradient = torch.zeros_like(p) if p.grad is None else _dense_copy(p.grad)
            found.append(gradient.neg_() if group.get("maximize") else gradient)
        return found

    def gradients(self) -> Vector:
        """Those of what the player minimises: `loss_gradients`, and what decay adds to them where the parameters are.

        A parameter that the loss does not depend on does not decay.
        """
        found = self.loss_gradients()
        for gradient, (p, group) in zip(found, self._grouped(), strict=True):
            if p.grad is not None and (decay := self._decay(group)):
                gradient.add_(p.detach(), alpha=decay)
        return found

    def descend_along(self, gradients: Sequence[Tensor | None]) -> None:
        """One step of the optimiser along gradients of what the player minimises; without one, a parameter stays."""
        self.optimizer.zero_grad()  # of a parameter that has been frozen since, which the optimiser would move
        for gradient, (p, group) in zip(gradients, self._grouped(), strict=True):
            if gradient is None:
                continue
            if decay := self._decay(group):  # which the optimiser adds itself
                gradient = torch.sub(gradient, p.detach(), alpha=decay)
            p.grad = _laid_out(-gradient if group.get("maximize") else gradient, p)
        self.optimizer.step()

    def step_from(self, start: Vector) -> None:
        """Goes to `start` and makes one step of the optimiser along `.grad`, taken where the parameters were before."""
        for place, (p, group) in zip(start, self._grouped(), strict=True):
            if p.grad is not None and (decay := self._decay(group)):
                # What the optimiser adds at the start becomes what it would have added here.
                way = torch.sub(p.detach(), place)
                p.grad = _laid_out(_dense_copy(p.grad).add_(way, alpha=-decay if group.get("maximize") else decay), p)
            p.detach().copy_(place)
        self.optimizer.step()


def _dense_copy(gradient: Tensor) -> Tensor:
    found = gradient.detach()
    return found.to_dense() if found.is_sparse else found.clone()


def _laid_out(gradient: Tensor, like: Tensor) -> Tensor:
    """The gradient with the strides of its parameter.

    Fused Adam reads a gradient as if it lay in memory like its parameter; backward() sees to that, but autograd.grad
    returns whatever layout the derivative came in.
    """
    return gradient if gradient.stride() == like.stride() else torch.empty_like(like).copy_(gradient)


@contextmanager
def frozen(parameters: Iterable[Tensor]) -> Iterator[None]:
    """A context in which no gradient is computed for these parameters."""
    held = [p for p in parameters if p.requires_grad]
    for p in held:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in held:
            p.requires_grad_(True)
