"""The vector field of a game, and products with its Jacobian.

The field is v = (grad_critic L_critic, grad_generator L_generator), its Jacobian J. Only products of J with vectors are
ever formed (Pearlmutter 1994). Convolutions and piecewise linear activations are ours on the way, as for gradient
penalties (fastgan/penalties/lean.py).
"""

import torch
from torch import Tensor

from fastgan.games.player import Closure, Player
from fastgan.games.vectors import Vector
from fastgan.losses import Players
from fastgan.penalties.lean import lean_derivatives


class Field:
    """Both losses at the parameters as they are, with their graphs.

    Args:
        critic, generator: the players.
        critic_closure, generator_closure: each is called once.

    Attributes:
        losses: detached.
    """

    def __init__(self, critic: Player, generator: Player, critic_closure: Closure, generator_closure: Closure) -> None:
        self.critic, self.generator = critic, generator
        with torch.enable_grad(), lean_derivatives():
            self._critic_loss = critic.loss(critic_closure)
            self._generator_loss = generator.loss(generator_closure)
        self._check_depends(critic, self._critic_loss, generator)
        self._check_depends(generator, self._generator_loss, critic)
        self.losses = Players(self._critic_loss.detach(), self._generator_loss.detach())

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
        """Those of the critic's loss by the critic x and by the generator y, then those of the generator's loss."""
        x, y = self.critic.parameters, self.generator.parameters
        return self.of_critic(x), self.of_critic(y), self.of_generator(x), self.of_generator(y)

    @staticmethod
    def _gradient(loss: Tensor, parameters: Vector) -> Vector:
        with torch.enable_grad():
            found = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]

    @staticmethod
    def _check_depends(player: Player, loss: Tensor, opponent: Player) -> None:
        if not depends(loss, opponent.parameters):
            raise ValueError(
                f"the loss of the {player.who} does not depend on the {opponent.who}'s parameters, expected samples "
                "that are not detached: the method needs the derivative with respect to both players"
            )


def depends(loss: Tensor, parameters: Vector) -> bool:
    """Whether any of the parameters is a leaf of the loss's graph."""
    wanted, seen, ahead = {id(p) for p in parameters}, set(), [loss.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if id(getattr(node, "variable", None)) in wanted:
            return True
        ahead.extend(following for following, _ in node.next_functions)
    return False


def pulled_back(gradients: Vector, vectors: Vector, parameters: Vector) -> Vector:
    """grad_parameters <gradients, vectors>, detached: the transposed Jacobian of the gradients, times the vectors."""
    used = [(g, v) for g, v in zip(gradients, vectors, strict=True) if g.requires_grad]
    if not used:
        return [torch.zeros_like(p) for p in parameters]
    outputs, cotangents = zip(*used, strict=True)
    found = torch.autograd.grad(outputs, parameters, cotangents, retain_graph=True, materialize_grads=True)
    return [g.detach() for g in found]
