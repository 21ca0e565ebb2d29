"""`Closures`: the engine of loops of your own, made of one function for each player that returns its loss."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fastgan.games.game import Game
from fastgan.games.player import frozen
from fastgan.losses import Players
from fastgan.tasks.task import Batch, Side

Closure = Callable[[], Tensor]
"""Returns a player's loss, a scalar."""

_KEYS = itertools.count()


class Closures:
    """An `Engine` for one step of a game, or for all of them.

        for real in data:
            z = torch.randn(len(real), 128)
            closures = Closures(
                game,
                lambda: loss.critic(critic(real), critic(generator(z))),
                lambda: loss.generator(critic(generator(z)), None),
            )
            losses = game.step(closures)

    A closure may be called several times in a step, at other parameters. It neither calls `backward` nor detaches the
    samples: what the opponent does is a constant where that is meant, at no cost. Games with `one_batch` need the loss
    of the same data and latents whenever one step calls it; for the others it may draw them anew. What it draws from
    PyTorch's global generators (dropout, noise) is kept the same where that matters: of all calls for one batch the
    first one moves the generators on, as ever, and the others draw the same and leave them as they were.

    Autocast to bfloat16, inside the closures or around the step, works for all methods but follow-the-ridge; float16
    with a GradScaler for none, as that expects one gradient for each step.

    Args:
        game: whose players' losses they are.
        critic, generator: return the loss of that player.
        epoch: for variance-reduced extragradient: returns (critic's closure, generator's closure) of each batch of the
            data, batches of equal size.
    """

    def __init__(
        self,
        game: Game,
        critic: Closure,
        generator: Closure,
        epoch: Callable[[], Iterable[tuple[Closure, Closure]]] | None = None,
    ) -> None:
        self._game, self._critic, self._generator, self._epoch = game, critic, generator, epoch

    def batch(self) -> Batch:
        """Stands for what the two closures read."""
        return Batch(_Data(self._critic, self._generator), next(_KEYS))

    def again(self, batch: Batch) -> Batch:
        """Stands for what the same closures read; they draw anew."""
        return Batch(_of(batch), next(_KEYS))

    def epoch(self) -> Iterable[Batch]:
        """One for each pair of closures that `epoch` returns.

        Raises:
            ValueError: there is no `epoch`.
        """
        if self._epoch is None:
            raise ValueError(
                "Closures: epoch is None, expected a function that returns (critic's closure, generator's closure) of "
                f"each batch of the data, over all of which {type(self._game).__name__} takes a mean"
            )
        return (Batch(_Data(*pair), next(_KEYS)) for pair in self._epoch())

    def gradient(self, side: Side, batch: Batch) -> Tensor:
        """Leaves the gradient of a closure's loss in `.grad`, the opponent held constant; returns the loss.

        Raises:
            TypeError, ValueError: the closure returned something else than a scalar that depends on its player.
        """
        critic, generator = self._game.players
        player, opponent = (critic, generator) if side == "critic" else (generator, critic)
        player.optimizer.zero_grad()
        with torch.enable_grad(), frozen(opponent.parameters):
            loss = self._loss(side, batch)
            loss.backward()
        return loss.detach()

    def losses(self, batch: Batch) -> Players:
        """What both closures return; raises as `gradient`."""
        return Players(self._loss("critic", batch), self._loss("generator", batch))

    def _loss(self, side: Side, batch: Batch) -> Tensor:
        # An autocast around the whole step keeps copies of the weights, which may have moved since.
        torch.clear_autocast_cache()
        data = _of(batch)
        with self._same_draws(data, side, batch.key):
            loss: Any = data.closures[side]()
        if not isinstance(loss, Tensor):
            raise TypeError(f"the closure of the {side} returned {type(loss).__name__}, expected a scalar tensor")
        if loss.numel() != 1:
            raise ValueError(f"the closure of the {side} returned shape {list(loss.shape)}, expected a scalar")
        if not loss.requires_grad:
            raise ValueError(
                f"the closure of the {side} returned a constant, expected a loss that depends on its parameters"
            )
        return loss

    @contextmanager
    def _same_draws(self, data: "_Data", side: Side, key: int) -> Iterator[None]:
        """A context whose draws are those of the first one of this side and key."""
        if (side, key) not in data.drawn_from:
            of_gpus = {gpu: torch.cuda.get_rng_state(gpu) for gpu in self._gpus()}
            data.drawn_from[side, key] = torch.get_rng_state(), of_gpus
            yield
            return
        of_cpu, of_gpus = data.drawn_from[side, key]
        with torch.random.fork_rng(devices=list(of_gpus)):
            torch.set_rng_state(of_cpu)
            for gpu, state in of_gpus.items():
                torch.cuda.set_rng_state(state, gpu)
            yield

    def _gpus(self) -> list[int]:
        """Those of all parameters, frozen ones too."""
        groups = [group for player in self._game.players for group in player.optimizer.param_groups]
        return sorted({p.device.index for group in groups for p in group["params"] if p.device.type == "cuda"})


class _Data(dict[str, Tensor]):
    """Stands in a batch for its tensors, which the closures alone know. What is remembered goes with the batch.

    Attributes:
        closures: those that read the data.
        drawn_from: the states of the global generators (the CPU's, each GPU's) at the first call, by side and key.
    """

    def __init__(self, critic: Closure, generator: Closure) -> None:
        super().__init__()
        self.closures: dict[Side, Closure] = {"critic": critic, "generator": generator}
        self.drawn_from: dict[tuple[Side, int], tuple[Tensor, dict[int, Tensor]]] = {}


def _of(batch: Batch) -> _Data:
    if not isinstance(batch.tensors, _Data):
        raise ValueError("Closures: batch has tensors, expected one that batch, again or epoch returned")
    return batch.tensors
