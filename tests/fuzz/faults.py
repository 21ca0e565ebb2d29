"""Faults that fastgan once had, put back on purpose: `python -m tests.fuzz --faults` looks how soon each is found.

A fault is a context manager that puts the faulty function of old in the place of today's: copy the function from the
commit before its mend, and name the place with `_instead`, which fails if the place is no longer there. A fault that
several functions made needs them all. Names are what the fault did, in a few words.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from fastgan.affine import NotAffineError, recorder
from fastgan.affine.rules.matmul import Addmm
from fastgan.affine.rules.spatial import AveragePool
from fastgan.penalties import eligibility

Fault = Callable[[], AbstractContextManager[Any]]


@contextmanager
def _instead(owner: Any, name: str, old: Any) -> Iterator[None]:
    """`old` as an attribute of a class or module."""
    today = vars(owner)[name]
    setattr(owner, name, old)
    try:
        yield
    finally:
        setattr(owner, name, today)


def bias_of_one_number() -> AbstractContextManager[None]:
    """A linear layer hands on a bias of shape [1] to an activation, which reads one for each feature."""

    def give_bias(self: Addmm) -> tuple[Tensor | None, Any]:
        if self.bias is None or self.bias.ndim != 1:
            return None, None
        given = self.bias, self.constants[0]
        self.bias, self.constants = None, ()
        return given

    return _instead(Addmm, "give_bias", give_bias)


def bias_along_the_samples() -> AbstractContextManager[None]:
    """Average pooling takes a bias along dimension 1 although the samples lie there."""

    def takes_bias(self: AveragePool) -> bool:
        return self.bias is None and not any(self.rest[2]) and self.rest[5] is None and len(self.output.shape) == 4

    return _instead(AveragePool, "takes_bias", property(takes_bias))


def weights_without_version_checks() -> AbstractContextManager[None]:
    """PyTorch does not check what weights are made of, as a hook has packed it."""

    @contextmanager
    def without_activations(recording: recorder.Recorder) -> Iterator[None]:
        def pack(tensor: Tensor) -> Any:
            return recorder._Dropped if recording.is_activation(tensor) else tensor

        def unpack(packed: Any) -> Tensor:
            if packed is recorder._Dropped:
                raise NotAffineError("the critic differentiates its own activations: use method='double_backward'")
            return packed

        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            yield

    return _instead(recorder, "_without_activations", without_activations)


def trial_of_a_function() -> AbstractContextManager[None]:
    """The trial run of a critic that is no module leaves its modules' buffers changed."""
    restored = eligibility._buffers_restored

    @contextmanager
    def of_modules_only(network: Any) -> Iterator[None]:
        with restored(network) if isinstance(network, nn.Module) else nullcontext():
            yield

    return _instead(eligibility, "_buffers_restored", of_modules_only)


def refused_only_once() -> AbstractContextManager[None]:
    """A weight that autograd joins to the input is refused at its first use, and taken at the second."""

    def check_apart(self: recorder.Recorder, weight: Tensor) -> None:
        waiting: list[Any] = [weight.grad_fn]
        while waiting:
            node = waiting.pop()
            if node is None or node in self._apart:
                continue
            if getattr(node, "variable", None) is self._x:
                raise NotAffineError("a weight was computed from the input by an operation of unknown derivative")
            self._apart.add(node)
            waiting.extend(parent for parent, _ in node.next_functions)

    return _instead(recorder.Recorder, "_check_apart", check_apart)


FAULTS: dict[str, Fault] = {
    "": nullcontext,
    **{
        fault.__name__.replace("_", "-"): fault
        for fault in (
            bias_of_one_number,
            bias_along_the_samples,
            weights_without_version_checks,
            trial_of_a_function,
            refused_only_once,
        )
    },
}
"""By name; without a name there is none."""
