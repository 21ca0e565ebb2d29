"""How the outputs of a critic are read: which are judged and penalised, and what the loss is given.

A critic may return a tensor, or lists, tuples and dicts of tensors. The passes of `one_pass` see those of them that are
needed, each once, as parts; a form says what they are parts of.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

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

    def __post_init__(self) -> None:
        judge = self.judge
        if isinstance(judge, bool) or not (judge is None or isinstance(judge, (int, str)) or callable(judge)):
            raise TypeError(f"judge is {judge!r}, expected an index, a key or a function of what the critic returns")

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
        if self.judge is None and is_floating(output):
            return Read(output, output)
        judged = self._judged(output)
        return Read(output if self.whole else judged, judged)

    def number(self, judged: Any, samples: int) -> Tensor:
        """The scalar whose gradient with respect to each sample is penalised."""
        _check_samples(judged, samples)
        if isinstance(judged, Tensor):
            return self._reduced(judged, samples)
        return sum(self._reduced(tensor, samples) for tensor in tensors_of(judged))  # type: ignore[return-value]

    def parts(self, output: Any, samples: int) -> "tuple[list[Tensor], Form]":
        """The tensors that the loss and the penalties need, each once, and what is made of them.

        Raises:
            TypeError, ValueError: as `read`.
        """
        read = self.read(output)
        _check_samples(read.judged, samples)
        parts: list[Tensor] = []

        def place(part: Any) -> Any:
            if not is_floating(part):
                return part
            for i, known in enumerate(parts):
                if part is known:  # judged and shown
                    return Part(i)
            parts.append(part)
            return Part(len(parts) - 1)

        return parts, Form(map_parts(place, read.shown), map_parts(place, read.judged), samples, self.reduce)

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


def _check_samples(judged: Any, samples: int) -> None:
    for tensor in tensors_of(judged):
        if samples and tensor.numel() % samples:
            raise ValueError(
                f"critic: what is judged has shape {list(tensor.shape)}, expected [{samples}, ...]: one number or "
                "more for each sample, not their mean"
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


@dataclass(frozen=True)
class Part:
    """Stands for one of the tensors that the passes see."""

    index: int


class Form(NamedTuple):
    """What the tensors that the passes see are parts of.

    Attributes:
        shown: what the loss is given, with a `Part` for each tensor.
        penalised: what is judged, in the same way.
        samples: the size of the batch.
        reduce: as in `Outputs`.
    """

    shown: Any
    penalised: Any
    samples: int
    reduce: str

    def split(self, parts: Sequence[Tensor]) -> Any:
        """What the loss is given."""
        return _filled(self.shown, parts)

    def judged(self, parts: Sequence[Tensor]) -> Any:
        """What is judged."""
        return _filled(self.penalised, parts)

    def times_judged(self, index: int) -> int:
        """How often a part is among what is judged."""
        return sum(part.index == index for part in _parts(self.penalised))

    def slopes(self, of_shown: Sequence[Tensor | None], parts: Sequence[Tensor]) -> list[Tensor | None]:
        """The gradient with respect to each part, of those with respect to the tensors that the loss is given."""
        return _summed(_parts(self.shown), of_shown, len(parts))

    def slopes_of_judged(self, of_judged: Sequence[Tensor], parts: Sequence[Tensor]) -> list[Tensor | None]:
        """The same of those with respect to what is judged."""
        return _summed(_parts(self.penalised), of_judged, len(parts))

    def one_number(self, slopes: Sequence[Tensor | None]) -> Tensor | None:
        """The gradient with respect to what is judged, [samples], if that is a number, and the loss of nothing else."""
        judged = {part.index for part in _parts(self.penalised)}
        used = [(i, slope) for i, slope in enumerate(slopes) if slope is not None]
        if len(judged) > 1 or len(used) != 1:
            return None
        ((i, slope),) = used
        if i not in judged or slope.numel() != self.samples:
            return None
        times = self.times_judged(i)
        return slope.reshape(self.samples) if times == 1 else slope.reshape(self.samples) / times

    def numbers(self, parts: Sequence[Tensor]) -> Tensor:
        """The number of each sample that is penalised, [samples]; differentiable."""
        seeds = self.seeds(parts, 1.0)
        terms = [
            (seed * y).reshape(self.samples, -1).sum(1)
            for y, seed in zip(parts, seeds, strict=True)
            if seed is not None
        ]
        return sum(terms[1:], start=terms[0])

    def seeds(self, parts: Sequence[Tensor], factor: float) -> list[Tensor | None]:
        """`factor` times the gradient of the number that is penalised with respect to each part."""
        return [seed(y, self.times_judged(i) * factor, self.samples, self.reduce) for i, y in enumerate(parts)]


def seed(y: Tensor, factor: float, samples: int, reduce: str) -> Tensor | None:
    """`factor` times the gradient of the sum or mean of a sample's numbers in y; None for zero."""
    if not factor:
        return None
    return torch.full_like(y, factor if reduce == "sum" else factor * samples / y.numel())


def _filled(tree: Any, parts: Sequence[Tensor]) -> Any:
    return map_parts(lambda part: parts[part.index] if isinstance(part, Part) else part, tree)


def _parts(tree: Any) -> list[Part]:
    return [part for part in parts_of(tree) if isinstance(part, Part)]


def _summed(of: Sequence[Part], slopes: Sequence[Tensor | None], number: int) -> list[Tensor | None]:
    total: list[Tensor | None] = [None] * number
    for part, slope in zip(of, slopes, strict=True):
        known = total[part.index]
        if slope is not None:
            total[part.index] = slope if known is None else known + slope
    return total
