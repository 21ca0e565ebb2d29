"""The vector field of a game, and products with its Jacobian.

The field is v = (grad_critic L_critic, grad_generator L_generator), its Jacobian J, of what the players minimise: their
losses with the optimisers' weight decay as L2 terms. Only products of J with vectors are ever formed (Pearlmutter
1994).
"""

from typing import Any

import torch
from torch import Tensor

from fastgan.games.player import Player
from fastgan.games.vectors import Vector
from fastgan.losses import Players


class Field:
    """Both players' objectives at the present parameters, with their graphs.

    Args:
        critic, generator: the players.
        losses: theirs, with the graphs.

    Attributes:
        losses: detached.

    Raises:
        ValueError: a loss does not depend on the opponent's parameters.
        TypeError: an optimizer maximises in some of its param groups and minimises in others.
    """

    def __init__(self, critic: Player, generator: Player, losses: Players) -> None:
        self.critic, self.generator = critic, generator
        by_critic, by_generator = leaves(losses.critic), leaves(losses.generator)
        self._check_depends(critic, by_critic, generator)
        self._check_depends(generator, by_generator, critic)
        with torch.enable_grad():
            self._critic_loss = critic.objective(losses.critic, by_critic)
            self._generator_loss = generator.objective(losses.generator, by_generator)
        self._reached = by_critic | by_generator
        self.losses = Players(losses.critic.detach(), losses.generator.detach())

    def of_critic(self, parameters: Vector) -> Vector:
        """grad_parameters L_critic, differentiable."""
        return self._gradient(self._critic_loss, parameters)

    def of_generator(self, parameters: Vector) -> Vector:
        """grad_parameters L_generator, differentiable."""
        return self._gradient(self._generator_loss, parameters)

    def simultaneous(self) -> Vector:
        """v, the critic's part first, differentiable."""
        return self.of_critic(self.critic.parameters) + self.of_generator(self.generator.parameters)

    def gradients(self) -> tuple[Vector, Vector, Vector, Vector]:
        """The gradients of the critic's loss with respect to x (critic) and y (generator), then of the generator's."""
        x, y = self.critic.parameters, self.generator.parameters
        return self.of_critic(x), self.of_critic(y), self.of_generator(x), self.of_generator(y)

    def of_reached(self, vector: Vector) -> list[Tensor | None]:
        """A vector over both players without the parts of parameters that neither loss depends on.

        The optimisers leave those alone, as they do where there is no `.grad`; along zeros, Adam's moments would move
        them.
        """
        parameters = self.critic.parameters + self.generator.parameters
        return [part if id(p) in self._reached else None for part, p in zip(vector, parameters, strict=True)]

    @staticmethod
    def _gradient(loss: Tensor, parameters: Vector) -> Vector:
        with torch.enable_grad():
            found = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]

    @staticmethod
    def _check_depends(player: Player, reached: set[int], opponent: Player) -> None:
        if not any(id(p) in reached for p in opponent.parameters):
            raise ValueError(
                f"the loss of the {player.who} does not depend on the {opponent.who}'s parameters, expected samples "
                "that are not detached: the method needs the derivative with respect to both players"
            )


def leaves(loss: Tensor) -> set[int]:
    """The ids of the leaf tensors that the gradient of a loss reaches."""
    found: set[int] = set()
    seen: set[Any] = set()
    ahead: list[Any] = [loss.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        ahead.extend(following for following, _ in node.next_functions)
    return found


def pulled_back(gradients: Vector, vectors: Vector, parameters: Vector) -> Vector:
    """grad_parameters <gradients, vectors>, detached: the transposed Jacobian of the gradients, times the vectors."""
    used = [(g, v) for g, v in zip(gradients, vectors, strict=True) if g.requires_grad]
    if not used:
        return [torch.zeros_like(p) for p in parameters]
    outputs, cotangents = zip(*used, strict=True)
    found = torch.autograd.grad(outputs, parameters, cotangents, retain_graph=True, materialize_grads=True)
    return [g.detach() for g in found]
