"""The critic's optimiser inside the unrolling: pure functions of parameters, differentiable through every step."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from fastgan.ops._common.checks import check_number

Parameters = dict[str, Tensor]


class InnerOptimizer(Protocol):
    """The interface that `unrolled_critic` needs of an optimiser."""

    def start(self) -> Any:
        """The state before the first step."""
        ...

    def step(self, parameters: Parameters, gradients: Mapping[str, Tensor], state: Any) -> tuple[Parameters, Any]:
        """New parameters and a new state; parameters without a gradient stay."""
        ...


@dataclass(frozen=True)
class SGD:
    """φ <- φ - lr ∇L(φ).

    Raises:
        ValueError: lr is negative or not finite.
    """

    lr: float

    def __post_init__(self) -> None:
        check_number("SGD", "lr", self.lr)

    def start(self) -> None:
        return None

    def step(self, parameters: Parameters, gradients: Mapping[str, Tensor], state: None) -> tuple[Parameters, None]:
        moved = {name: torch.sub(parameters[name], g, alpha=self.lr) for name, g in gradients.items()}
        return {**parameters, **moved}, None


class Moments(NamedTuple):
    """Adam's state of one parameter: steps made, and the averages of the gradient and of its square."""

    steps: int
    mean: Tensor
    square: Tensor


@dataclass(frozen=True)
class Adam:
    """φ <- φ - lr m̂ / (sqrt(v̂) + eps), as torch.optim.Adam without weight decay and amsgrad.

        m <- β₁ m + (1 - β₁) g,   v <- β₂ v + (1 - β₂) g²,   m̂ = m / (1 - β₁ᵗ),   v̂ = v / (1 - β₂ᵗ)

    Both averages are differentiated. Where v is exactly 0, so is g, and the root's derivative is taken as 0: sqrt has
    none there, and NaN would spread to every parameter of the generator.

    Args:
        lr: the learning rate.
        betas: of the two averages, at least 0 and below 1.
        eps: added to the root, above 0.
        moments: a state to start from, by parameter name; see `continuing`.

    Raises:
        ValueError: a number is out of its range.

    Kingma and Ba 2015, arXiv:1412.6980, algorithm 1.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    moments: Mapping[str, Moments] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_number("Adam", "lr", self.lr)
        check_number("Adam", "eps", self.eps, above=True)
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"Adam: betas is {self.betas!r}, expected two numbers, at least 0 and below 1")

    @classmethod
    def continuing(cls, optimizer: torch.optim.Adam, critic: nn.Module) -> "Adam":
        """Makes the steps that the critic's own optimiser would make next: its settings and its averages, as constants.

        Args:
            optimizer: torch.optim.Adam with one group, without weight decay, amsgrad and maximize.
            critic: whose parameters it holds.

        Raises:
            TypeError: the optimizer is another.
            ValueError: it has several groups, or one of those settings.
        """
        if type(optimizer) is not torch.optim.Adam:
            raise TypeError(f"Adam.continuing: optimizer is {type(optimizer).__name__}, expected torch.optim.Adam")
        if len(optimizer.param_groups) != 1:
            raise ValueError(f"Adam.continuing: optimizer has {len(optimizer.param_groups)} groups, expected one")
        (group,) = optimizer.param_groups
        for name in ("weight_decay", "amsgrad", "maximize"):
            if group[name]:
                raise ValueError(f"Adam.continuing: optimizer has {name}={group[name]!r}, expected none")
        moments = {}
        for name, p in critic.named_parameters():
            state = optimizer.state.get(p)
            if state:
                # Copies: the critic's next real step changes these tensors in place.
                mean, square = (state[key].detach().clone() for key in ("exp_avg", "exp_avg_sq"))
                moments[name] = Moments(int(state["step"]), mean, square)
        return cls(float(group["lr"]), tuple(map(float, group["betas"])), group["eps"], moments)  # type: ignore[arg-type]

    def start(self) -> dict[str, Moments]:
        return dict(self.moments)

    def step(
        self, parameters: Parameters, gradients: Mapping[str, Tensor], state: dict[str, Moments]
    ) -> tuple[Parameters, dict[str, Moments]]:
        moved, after = dict(parameters), dict(state)
        beta1, beta2 = self.betas
        for name, g in gradients.items():
            steps, mean, square = state.get(name) or Moments(0, torch.zeros_like(g), torch.zeros_like(g))
            now = Moments(steps + 1, beta1 * mean + (1 - beta1) * g, beta2 * square + (1 - beta2) * g.square())
            root = _root(now.square / (1 - beta2**now.steps))
            moved[name] = parameters[name] - self.lr / (1 - beta1**now.steps) * (now.mean / (root + self.eps))
            after[name] = now
        return moved, after


def _root(x: Tensor) -> Tensor:
    """sqrt(x), with the derivative 0 at 0."""
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1).sqrt(), 0)
