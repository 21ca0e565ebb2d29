"""Renames the tensors of a state dict between two namings of one network, checking that none is missing."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fastgan.ops import setup_filter

State = Mapping[str, Tensor]
FILTER = [1, 3, 3, 1]
OURS = "our network"


class NamePair(NamedTuple):
    """One tensor in both namings; theirs may have dimensions of size 1 around those of ours."""

    theirs: str
    ours: str
    before: int = 0
    behind: int = 0


@dataclass(frozen=True)
class Naming:
    """A network in both namings.

    Attributes:
        source: how messages call their network.
        pairs: the tensors that both have.
        their_filters: their names of the resampling filters -> the gain in it; they may be left out of a state dict.
        our_filters: our names of them.
    """

    source: str
    pairs: tuple[NamePair, ...]
    their_filters: Mapping[str, float]
    our_filters: tuple[str, ...]

    def to_ours(self, state: State) -> dict[str, Tensor]:
        """Their state dict as ours.

        Raises:
            ValueError: a tensor is missing, is one that our network has not, or is of another shape, or a filter is
                another than [1, 3, 3, 1].
        """
        _check_names(self.source, state, [pair.theirs for pair in self.pairs], self.their_filters)
        for name, gain in self.their_filters.items():
            if name in state:
                _check_filter(self.source, name, state[name], gain)
        moved = {pair.ours: self._without_ones(pair, state[pair.theirs]) for pair in self.pairs}
        return moved | {name: setup_filter(FILTER) for name in self.our_filters}

    def to_theirs(self, state: State) -> dict[str, Tensor]:
        """Our state dict as theirs.

        Raises:
            ValueError: a tensor is missing or unknown, or a filter is another than [1, 3, 3, 1].
        """
        _check_names(OURS, state, [pair.ours for pair in self.pairs], self.our_filters)
        for name in self.our_filters:
            if name in state:
                _check_filter(OURS, name, state[name], 1)
        moved = {}
        for pair in self.pairs:
            value = state[pair.ours]
            moved[pair.theirs] = value.reshape((*(1,) * pair.before, *value.shape, *(1,) * pair.behind))
        return moved | {name: setup_filter(FILTER) * gain for name, gain in self.their_filters.items()}

    def _without_ones(self, pair: NamePair, value: Tensor) -> Tensor:
        first, last = pair.before, value.ndim - pair.behind
        if last < first or any(size != 1 for size in (*value.shape[:first], *value.shape[last:])):
            expected = f"1 in the first {pair.before} and the last {pair.behind} dimensions"
            raise ValueError(f"{self.source}: {pair.theirs} has shape {list(value.shape)}, expected {expected}")
        return value.reshape(value.shape[first:last])


def numbers(state: Iterable[str], pattern: str) -> list[int]:
    """The sorted numbers that the group of a pattern matches in the names."""
    found = (re.fullmatch(pattern, name) for name in state)
    return sorted({int(match[1]) for match in found if match})


def check_state(argument: str, state: object) -> None:
    """Raises TypeError unless it is a mapping of names to tensors."""
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        what = type(state).__name__
        if isinstance(state, Mapping):
            what += " with " + ", ".join(f"{k!r}: {type(v).__name__}" for k, v in list(state.items())[:3])
        raise TypeError(f"{argument} is {what}, expected a state dict: names and tensors")


def some(names: Iterable[str]) -> str:
    """The first names, and the number of the rest."""
    listed = sorted(names)
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")


def _check_names(source: str, state: State, required: Iterable[str], optional: Iterable[str]) -> None:
    required = set(required)
    missing, unknown = required - set(state), set(state) - required - set(optional)
    problems = [f"has no {some(missing)}"] if missing else []
    problems += [f"has {some(unknown)}, which StyleGAN2Generator and StyleGAN2Critic have not"] if unknown else []
    if problems:
        raise ValueError(f"{source}: the state dict {' and '.join(problems)}")


def _check_filter(source: str, name: str, value: Tensor, gain: float) -> None:
    expected = setup_filter(FILTER) * gain
    same = value.shape == expected.shape and torch.allclose(value.cpu().float(), expected, rtol=1e-3, atol=0)
    if not same:
        raise ValueError(
            f"{source}: {name} has shape {list(value.shape)} and values {value.flatten()[:4].tolist()}..., "
            f"expected the filter [1, 3, 3, 1] in both directions, with a sum of {gain:g}"
        )
