"""Everything that a step reads and changes, as one flat dictionary of tensors.

Random numbers are not in it: they are functions of the seed and the step (`fastgan.train.keys`).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fastgan.games import Game
from fastgan.tasks import Task


def tensors_of(task: Task, game: Game) -> dict[str, Tensor]:
    """The state of a task and of its game by name; the values are not copied."""
    named = {f"task.{name}": value for name, value in task.state_dict().items()}
    for player in game.players:
        named |= _flat(f"optimizer.{player.who}", player.optimizer.state_dict()["state"])
    return named | _flat("game", game.memories())


def load_tensors(named: dict[str, Tensor], task: Task, game: Game) -> None:
    """Continues from `tensors_of` a task and a game of the same kinds.

    Raises:
        KeyError, RuntimeError, ValueError: a tensor is missing, left over or of the wrong shape.
    """
    task.load_state_dict(below(named, "task"))
    for player in game.players:
        state = _nested(below(named, f"optimizer.{player.who}"))
        numbered = {int(index): values for index, values in state.items()}
        player.optimizer.load_state_dict({**player.optimizer.state_dict(), "state": numbered})
    game.load_memories(_lists({**_empty(game.memories()), **_nested(below(named, "game"))}))


def below(named: dict[str, Tensor], owner: str) -> dict[str, Tensor]:
    """The tensors of one owner, without its name."""
    prefix = owner + "."
    return {name[len(prefix) :]: value for name, value in named.items() if name.startswith(prefix)}


def _flat(owner: str, value: Any) -> dict[str, Tensor]:
    """Dictionaries and lists in each other -> tensors by the path to each."""
    if isinstance(value, Tensor):
        return {owner: value}
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    return {name: tensor for key, inner in pairs for name, tensor in _flat(f"{owner}.{key}", inner).items()}


def _nested(flat: dict[str, Tensor]) -> dict[str, Any]:
    """The dictionaries again, with lists as dictionaries of their indices."""
    found: dict[str, Any] = {}
    for name, tensor in flat.items():
        *path, last = name.split(".")
        place = found
        for key in path:
            place = place.setdefault(key, {})
        place[last] = tensor
    return found


def _lists(nested: Any) -> Any:
    """With lists where all keys are their indices."""
    if isinstance(nested, Tensor):
        return nested
    if nested and all(key.isdigit() for key in nested):
        return [_lists(nested[str(index)]) for index in range(len(nested))]
    return {key: _lists(value) for key, value in nested.items()}


def _empty(memories: dict[str, Any]) -> dict[str, Any]:
    """The memories of a game that remembers nothing, which leave no tensors behind."""
    return {name: {} if name == "memory" else _empty(inner) for name, inner in memories.items()}


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """The names of tensors that are not finite."""
    named = {name: value for name, value in tensors.items() if value.is_floating_point()}
    if not named:
        return []
    finite = torch.stack([value.isfinite().all().cpu() for value in named.values()])
    return [name for name, good in zip(named, finite.tolist(), strict=True) if not good]
