"""`Game`, the base of all optimisers of two-player games: two players, and stored vectors."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from fastgan.games.engine import Engine
from fastgan.games.field import Field
from fastgan.games.player import Player
from fastgan.games.vectors import Vector
from fastgan.losses import Players
from fastgan.penalties.lean import lean_derivatives
from fastgan.tasks.task import Batch


class Game(ABC):
    """Updates both players at once, each by its own `torch.optim.Optimizer`.

        game = fastgan.games.Extragradient(Adam(critic.parameters()), Adam(generator.parameters()))
        losses = game.step(engine)

    A game says where gradients are taken and how parameters move. What the gradients are of, and how they are computed,
    is the engine's: `Closures` makes one of two functions that return the players' losses.

    Param groups and schedulers of the two optimisers are theirs, as ever: every step reads them anew. Weight decay that
    an optimiser adds to the gradient (Adam's, SGD's) is an L2 term of its player's loss, and is taken where the
    gradient is; decay beside the gradient (AdamW's) is a part of the optimiser's step, and takes its share of the point
    that moves: of w in w <- w - lr v(w'). `maximize` makes a player minimise the negative of its loss.

    Networks in DistributedDataParallel work with the methods of first order. Those of second order differentiate past
    its reducer, and their step is not linear in the gradients, so that no average over the ranks would be the step of
    the whole batch: with more than one process in torch.distributed they raise.

    Attributes:
        name: what the command line calls it.
        paper: where it stands.
        settings: the numbers it takes besides the optimisers, in the order in which the command line reads them.
        second_order: whether the losses are differentiated twice with respect to parameters, those of the opponent
            included; `fastgan.penalties.differentiable_critic_loss` then takes the place of `critic_loss`.
        replays: whether a step takes losses at several places that must be of the same data and the same draws.
        keeps_mean: whether it keeps a mean gradient over many steps, which must all be of the same losses.
        plain: whether both optimisers must be SGD without momentum, because the method is about steps of that form.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    settings: ClassVar[tuple[str, ...]] = ()
    second_order: bool = False
    replays: bool = False
    keeps_mean: bool = False
    plain: bool = False

    def __init__(self, critic: Optimizer, generator: Optimizer) -> None:
        self.critic = Player("critic", critic)
        self.generator = Player("generator", generator)
        own = {id(p) for p in self.critic.parameters}
        if any(id(p) in own for p in self.generator.parameters):
            raise ValueError("generator: one of its parameters is the critic's too, expected players that share none")
        self.check_plain()
        self.memory: dict[str, list[Tensor]] = {}
        """What a method carries from one step to the next besides the optimisers' own state, by name."""

    @property
    def one_batch(self) -> bool:
        """Whether a step takes one batch and all that it evaluates is of that one: several gradients of one line and a
        Jacobian are of one game."""
        return self.replays or self.second_order

    @property
    def players(self) -> tuple[Player, Player]:
        return self.critic, self.generator

    @abstractmethod
    def step(self, engine: Engine) -> Players:
        """Updates both players.

        Args:
            engine: computes their losses and gradients.

        Returns:
            Both losses, detached, at the parameters from which the step set out (where the players alternate: each
            before its own update).

        Raises:
            TypeError, ValueError: the method does not support the optimisers, or the engine refuses.
            RuntimeError: the optimisers' parameters are no longer those that the method remembers, or the method is of
                second order and there are several processes.
        """

    def zero_grad(self) -> None:
        """Sets the gradients of both players to None."""
        for player in self.players:
            player.optimizer.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """The state of both optimisers and the memory of the method, and of one inside it; tensors are not copied."""
        return {
            "critic": self.critic.optimizer.state_dict(),
            "generator": self.generator.optimizer.state_dict(),
            **self.memories(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from `state_dict()` of a game of the same kind over parameters of the same shapes."""
        self.critic.optimizer.load_state_dict(state["critic"])
        self.generator.optimizer.load_state_dict(state["generator"])
        self.load_memories(state)

    def memories(self) -> dict[str, Any]:
        """The tensors and numbers that `state_dict` holds besides the optimisers' states."""
        return {"memory": {name: list(tensors) for name, tensors in self.memory.items()}}

    def load_memories(self, state: dict[str, Any]) -> None:
        """Copies what `memories` returned; a tensor for each parameter goes to the device of that parameter."""
        devices = [p.device for p in self.parameters]
        self.memory = {
            name: [tensor.to(device, copy=True) for tensor, device in zip(tensors, devices, strict=True)]
            if len(tensors) == len(devices)
            else [tensor.clone() for tensor in tensors]
            for name, tensors in state["memory"].items()
        }

    # --- what the methods are made of ---

    def check_plain(self) -> None:
        """Raises TypeError unless the method supports the optimisers; param groups may have been added since."""
        if self.plain:
            for player in self.players:
                player.check_plain(type(self).__name__)

    def differentiate(self, engine: Engine, batch: Batch | None = None) -> Players:
        """Computes both players' gradients at the present parameters, in `.grad`.

        Args:
            engine: computes them.
            batch: of both; None for the next data, with draws of its own for each player.

        Returns:
            Both losses, detached.
        """
        first = engine.batch() if batch is None else batch
        of_critic = engine.gradient("critic", first)
        return Players(of_critic, engine.gradient("generator", engine.again(first) if batch is None else first))

    def field(self, engine: Engine, batch: Batch) -> Field:
        """The game's vector field at the present parameters, for second derivatives.

        Convolutions and piecewise linear activations are ours meanwhile, as for gradient penalties
        (fastgan/penalties/lean.py).
        """
        processes = torch.distributed.get_world_size() if _distributed() else 1
        if processes > 1:
            raise RuntimeError(
                f"{type(self).__name__}: torch.distributed has {processes} processes, expected one: second derivatives "
                "pass DistributedDataParallel's reducer by, and the ranks would part"
            )
        with torch.enable_grad(), lean_derivatives():
            return Field(self.critic, self.generator, engine.losses(batch))

    def recalled(self, name: str) -> Vector:
        """A stored vector; raises if it does not fit the present parameters."""
        vector, parameters = self.memory[name], self.parameters
        if [part.shape for part in vector] != [p.shape for p in parameters]:
            raise RuntimeError(
                f"{type(self).__name__}: memory[{name!r}] is of {len(vector)} tensors, expected the shapes of the "
                f"{len(parameters)} that the optimizers train now; call game.memory.clear() when these have changed"
            )
        return vector

    def descend(self) -> None:
        """Both optimisers step along `.grad` from the present parameters."""
        for player in self.players:
            player.optimizer.step()

    def step_from(self, start: Vector) -> None:
        """Both optimisers step from `start` along `.grad`, taken where the parameters are before."""
        count = len(self.critic.parameters)
        self.critic.step_from(start[:count])
        self.generator.step_from(start[count:])

    @property
    def parameters(self) -> list[Tensor]:
        """Both players' parameters, the critic's first."""
        return self.critic.parameters + self.generator.parameters

    def gradients(self) -> Vector:
        """Both players' gradients of what they minimise, the critic's first; see `Player.gradients`."""
        return self.critic.gradients() + self.generator.gradients()

    def loss_gradients(self) -> Vector:
        """The gradients without weight decay."""
        return self.critic.loss_gradients() + self.generator.loss_gradients()

    def descend_along(self, gradients: Sequence[Tensor | None]) -> None:
        """Both optimisers step along gradients of what the players minimise, the critic's first."""
        count = len(self.critic.parameters)
        self.critic.descend_along(gradients[:count])
        self.generator.descend_along(gradients[count:])

    def positions(self) -> list[Tensor]:
        """Copies of all parameters, the critic's first."""
        return [p.detach().clone() for p in self.parameters]

    def move_to(self, positions: list[Tensor]) -> None:
        """Sets all parameters."""
        for p, position in zip(self.parameters, positions, strict=True):
            p.detach().copy_(position)


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
