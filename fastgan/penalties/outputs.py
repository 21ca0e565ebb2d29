"""How the outputs of a critic are read: which are judged and penalised, and what the loss is given.

A critic may return a tensor, or lists, tuples and dicts of tensors. The passes of `one_pass` see one tensor: the only
one that is needed, or a concatenation [samples, K] of those that are, which its form takes apart again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from fastgan.affine import NotAffineError
from fastgan.losses.structure import described, is_floating, map_parts, parts_of, tensors_of
from fastgan.penalties.modules import code_of

Which = int | str | Callable[[Any], Any] | None
"""The argument `judge` of `critic_loss`."""


class Read(NamedTuple):
    """Parts of what a critic returned.

    Attributes:
        shown: what the loss is given.
        judged: what is penalised: a tensor, or lists, tuples and dicts of tensors.
    """

    shown: Any
    judged: Any


@dataclass(frozen=True)
class Outputs:
    """How the outputs of a critic are read.

    Attributes:
        judge: which of them is judged and penalised.
        reduce: "sum" or "mean" over each judged tensor's numbers, whose gradient is penalised; tensors are added.
        whole: whether the loss is given all that the critic returns, not only what is judged.
    """

    judge: Which = None
    reduce: str = "sum"
    whole: bool = False

    @property
    def kind(self) -> Any:
        """A key: of a function, which may be new at every step, by its code."""
        if self.judge is None:
            return None
        return (code_of(self.judge) or self.judge if callable(self.judge) else self.judge), self.whole

    def alone(self) -> "Outputs":
        """For points that are in no loss."""
        return replace(self, whole=False)

    def features(self, output: Any) -> Tensor:
        """What is judged, for a loss of several numbers per sample.

        Raises:
            TypeError: it is not one tensor.
        """
        judged = self.read(output).judged
        if not isinstance(judged, Tensor):
            raise TypeError(
                f"critic: what is judged is {described(judged)}, expected one tensor for a loss of several numbers per "
                "sample; name it by judge=0, judge='features' or a function"
            )
        return judged

    def read(self, output: Any) -> Read:
        """The parts of an output.

        Raises:
            TypeError, ValueError: the judged one is not there or no tensor, or has to be named.
        """
        if self.judge is None and isinstance(output, Tensor):
            return Read(output, output)
        judged = self._judged(output)
        return Read(output if self.whole else judged, judged)

    def number(self, judged: Any, samples: int) -> Tensor:
        """The scalar whose gradient with respect to each sample is penalised."""
        if isinstance(judged, Tensor):
            return self._reduced(judged, samples)
        return sum(self._reduced(tensor, samples) for tensor in tensors_of(judged))  # type: ignore[return-value]

    def joined(self, output: Any, samples: int) -> "tuple[Tensor, Form]":
        """The tensors that the loss and the penalties need, as one, and how to take it apart.

        Raises:
            TypeError, ValueError: as `read`.
            NotAffineError: there is one among them that does not begin with the samples.
        """
        read = self.read(output)
        if read.shown is read.judged and isinstance(read.judged, Tensor):
            return read.judged, Alone(samples, self.reduce)
        tensors: list[Tensor] = []
        places: list[Place] = []

        def placed(part: Any) -> Any:
            if not is_floating(part):
                return part
            for tensor, place in zip(tensors, places, strict=True):
                if part is tensor:  # judged and shown
                    return place
            start = places[-1].start + places[-1].width if places else 0
            tensors.append(part)
            places.append(Place(start, _width(part, samples), tuple(part.shape), part.dtype))
            return places[-1]

        form = Joined(map_parts(placed, read.shown), map_parts(placed, read.judged), tuple(places), self.reduce)
        return torch.cat([tensor.reshape(samples, -1) for tensor in tensors], 1), form

    def _reduced(self, tensor: Tensor, samples: int) -> Tensor:
        total = tensor.sum()
        return total if self.reduce == "sum" else total * (samples / max(tensor.numel(), 1))

    def _judged(self, output: Any) -> Any:
        if self.judge is None:
            found = output
            if isinstance(output, dict) or not _are_maps(tensors_of(output)):
                raise TypeError(_NAME_IT.format(described(output)))
        elif callable(self.judge):
            found = self.judge(output)
        else:
            found = _entry(output, self.judge)
        if not all(is_floating(part) and part.ndim for part in parts_of(found)) or not parts_of(found):
            raise TypeError(
                f"critic: what is judged is {described(found)}, expected floating-point tensors [samples, ...]; the "
                f"critic returned {described(output)}, of which judge=... names a part"
            )
        return found


ONE = Outputs()
"""A tensor, or every tensor of a list or tuple of maps."""

_NAME_IT = (
    "critic: it returned {}, expected a tensor, or a list or tuple of maps of one number for each place ([B], [B, 1, "
    "...], or [B, N] all of them); name what is judged and penalised: judge=0 for the first entry, judge='logits' for "
    "one of a dict, judge=lambda outputs: ... for others, which may be several"
)


def _are_maps(tensors: list[Tensor]) -> bool:
    """Whether each tensor has one number for each place: (logits, features) has not."""
    one_channel = all(t.ndim == 1 or (t.ndim > 1 and t.shape[1] == 1) for t in tensors)
    return bool(tensors) and (one_channel or all(t.ndim == 2 and t.shape[1] > 1 for t in tensors))


def _entry(output: Any, which: int | str) -> Any:
    try:
        if isinstance(which, str) and not isinstance(output, dict):
            return getattr(output, which)
        return output[which]
    except (KeyError, IndexError, AttributeError, TypeError):
        raise ValueError(f"judge is {which!r}, which is not in what the critic returned: {described(output)}") from None


def _width(tensor: Tensor, samples: int) -> int:
    if not samples or not tensor.ndim or len(tensor) % samples:
        raise NotAffineError(f"an output of shape {list(tensor.shape)} does not begin with the {samples} samples")
    return tensor.numel() // samples


# --- what was joined --------------------------------------------------------------------------------------------------


class Form(Protocol):
    """How the tensors lie in the one that the passes see, [samples, ...]."""

    def split(self, y: Tensor) -> Any:
        """What the loss is given."""
        ...

    def judged(self, y: Tensor) -> Any:
        """What is judged."""
        ...

    def join(self, slopes: Sequence[Tensor | None], y: Tensor) -> Tensor | None:
        """The gradient with respect to y of those with respect to the tensors that the loss is given."""
        ...

    def join_judged(self, slopes: Sequence[Tensor], y: Tensor) -> Tensor:
        """The same of those with respect to the judged tensors."""
        ...

    def one_number(self, slopes: Sequence[Tensor | None], y: Tensor) -> Tensor | None:
        """The gradient with respect to what is judged, [samples], if that is a number, and the loss of nothing else."""
        ...

    def seed(self, y: Tensor, factor: float) -> Tensor:
        """`factor` times the gradient with respect to y of the number whose gradient is penalised."""
        ...


class Alone(NamedTuple):
    """The form of a single tensor, which is left as it is."""

    samples: int
    reduce: str

    def split(self, y: Tensor) -> Tensor:
        return y

    def judged(self, y: Tensor) -> Tensor:
        return y

    def join(self, slopes: Sequence[Tensor | None], y: Tensor) -> Tensor | None:
        return slopes[0]

    def join_judged(self, slopes: Sequence[Tensor], y: Tensor) -> Tensor:
        return slopes[0]

    def one_number(self, slopes: Sequence[Tensor | None], y: Tensor) -> Tensor | None:
        (slope,) = slopes
        return slope.reshape(self.samples) if slope is not None and y.numel() == self.samples else None

    def seed(self, y: Tensor, factor: float) -> Tensor:
        return torch.full_like(y, factor if self.reduce == "sum" else factor * self.samples / y.numel())


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in a concatenation: its first column and their number, and its shape and dtype."""

    start: int
    width: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    def of(self, y: Tensor) -> Tensor:
        return y[:, self.start : self.start + self.width].reshape(self.shape).to(self.dtype)


class Joined(NamedTuple):
    """The form of a concatenation [samples, K]."""

    shown: Any
    """What the loss is given, with a place for each tensor."""
    penalised: Any
    """What is judged, in the same way."""
    places: tuple[Place, ...]
    """All of them, in order."""
    reduce: str

    def split(self, y: Tensor) -> Any:
        return map_parts(lambda part: part.of(y) if isinstance(part, Place) else part, self.shown)

    def judged(self, y: Tensor) -> Any:
        return map_parts(lambda part: part.of(y) if isinstance(part, Place) else part, self.penalised)

    def join(self, slopes: Sequence[Tensor | None], y: Tensor) -> Tensor | None:
        given = [(p, slope) for p, slope in zip(_places(self.shown), slopes, strict=True) if slope is not None]
        return _sum(given, y) if given else None

    def join_judged(self, slopes: Sequence[Tensor], y: Tensor) -> Tensor:
        return _sum(list(zip(_places(self.penalised), slopes, strict=True)), y)

    def one_number(self, slopes: Sequence[Tensor | None], y: Tensor) -> Tensor | None:
        (judged, *others) = _places(self.penalised)
        used = [(p, slope) for p, slope in zip(_places(self.shown), slopes, strict=True) if slope is not None]
        if others or judged.width > 1 or [place for place, _ in used] != [judged]:
            return None
        return used[0][1].reshape(len(y))

    def seed(self, y: Tensor, factor: float) -> Tensor:
        starts = [place.start for place in _places(self.penalised)]
        each = [starts.count(p.start) * (factor if self.reduce == "sum" else factor / p.width) for p in self.places]
        columns = [y.new_full((len(y), p.width), e) for p, e in zip(self.places, each, strict=True)]
        return torch.cat(columns, 1)


def _sum(slopes: Sequence[tuple[Place, Tensor]], y: Tensor) -> Tensor:
    total = torch.zeros_like(y)
    for place, slope in slopes:
        total[:, place.start : place.start + place.width] += slope.reshape(len(y), -1)
    return total


def _places(tree: Any) -> list[Place]:
    return [part for part in parts_of(tree) if isinstance(part, Place)]
