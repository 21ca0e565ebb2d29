"""A rule, and the recorder as a rule sees it.

A rule freezes one ATen operation: it runs the operation and records a node for its output, whose `pull` and `push` are
the operation's derivative. `fastgan.affine.rules.RULES` lists them.
"""

from typing import Any, Protocol

from torch import Tensor

from fastgan.affine.batch import BatchDim
from fastgan.affine.tape import Node, Slot, Value


class RuleRecorder(Protocol):
    """What a rule may ask of the recorder, and tell it. `Recorder` implements it.

    Attributes:
        samples: the size of the batch.
        plain: record nodes of torch's own operations only, for a compiler to fuse.
    """

    samples: int
    plain: bool

    def find(self, tensor: Any) -> Value | None:
        """The value of a tensor that depends on the input; None for a constant or what is no tensor."""
        ...

    def value(self, tensor: Tensor) -> Value:
        """The value of a tensor that must depend on the input: an operation with one tensor argument has no other."""
        ...

    def slot(self, weight: Tensor) -> Slot | None:
        """Where the gradient of a weight goes; None if it requires none.

        Raises:
            NotAffineError: the weight was computed from the input.
        """
        ...

    def add(self, node: Node, tensor: Tensor, batch: BatchDim, changed: bool = False) -> Tensor:
        """Appends a node to the tape.

        Args:
            node: the frozen operation.
            tensor: its output.
            batch: where the samples are in the output.
            changed: the output is an input, modified in place.

        Returns:
            `tensor`.
        """
        ...


class Rule(Protocol):
    """Records one operation: rule(recorder, func, args, kwargs), with an argument that depends on the input."""

    def __call__(self, recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Any:
        """Runs func(*args, **kwargs), records it and returns its output.

        Raises:
            NotAffineError: with these arguments the operation is not affine in the input sample by sample.
        """
        ...
