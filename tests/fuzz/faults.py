"""Faults that fastgan once had, put back on purpose: `--faults` measures how soon each is found.

A fault is a context manager that puts what was faulty in the place of today's; `_instead` fails if the place is no
longer there. Names are what the fault did, in a few words.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from fastgan.affine import function_mode, memory, saved_tensors
from fastgan.affine.recorder import Recorder
from fastgan.affine.tape import Bias, Value
from fastgan.nn import spectral_norm_ahead, spectral_norm_group
from fastgan.penalties import choice, compiled, critic, eligibility, programs, step
from fastgan.penalties.outputs import Form
from fastgan.penalties.state import Snapshot

Fault = Callable[[], AbstractContextManager[Any]]

upfirdn2d = import_module("fastgan.ops.upfirdn2d.backends")


@contextmanager
def _instead(owner: Any, name: str, old: Any) -> Iterator[None]:
    """`old` as an attribute of a class or module."""
    today = vars(owner)[name]
    setattr(owner, name, old)
    try:
        yield
    finally:
        setattr(owner, name, today)


@contextmanager
def _all(*faults: AbstractContextManager[Any]) -> Iterator[None]:
    with ExitStack() as stack:
        for fault in faults:
            stack.enter_context(fault)
        yield


def overwritten_under_a_view() -> AbstractContextManager[None]:
    """The passes count tensors instead of the memory that they lie in."""
    return _instead(memory, "block_of", id)


def loss_of_outputs_only() -> AbstractContextManager[None]:
    """What the loss depends on besides the outputs gets no gradient."""
    today = step.slopes
    return _instead(step, "slopes", lambda *args: today(*args)._replace(further=False))


def filter_of_the_default_dtype() -> AbstractContextManager[None]:
    """upfirdn2d's own filter of one tap goes to C++, which takes it for float32, in whatever the default dtype is."""
    alive: list[Tensor] = []

    def address(x: Tensor | None, dtype: torch.dtype, count: int, device: torch.device) -> int:
        if x is not None and x.shape == (1, 1) and dtype == torch.float32:
            x = torch.ones(1, 1)
            alive.append(x)
        return 0 if x is None else x.data_ptr()

    return _instead(upfirdn2d, "address", address)


def bias_of_one_number() -> AbstractContextManager[None]:
    """A linear layer hands on a bias of shape [1] to an activation, which reads one for each feature."""

    def fits(self: Bias, value: Value) -> bool:
        return value.batch.dim == 0 and self.tensor.ndim == 1 and self.tensor.dtype == value.dtype

    return _instead(Bias, "fits", fits)


def bias_along_the_samples() -> AbstractContextManager[None]:
    """Average pooling takes a bias along dimension 1 although the samples lie there."""

    def fits(self: Bias, value: Value) -> bool:
        return tuple(self.tensor.shape) == value.shape[1:2] and self.tensor.dtype == value.dtype

    return _instead(Bias, "fits", fits)


def weights_without_version_checks() -> AbstractContextManager[None]:
    """PyTorch does not check what weights are made of, as a hook has packed it."""
    return _instead(saved_tensors, "version_of", lambda tensor: 0)


def stale_graphs() -> AbstractContextManager[None]:
    """What is compiled keeps tensors without looking at their versions, and does not see a hook that comes later."""
    return _all(
        _instead(compiled.Compiled, "_check_versions", lambda self: None),
        _instead(compiled._Request, "_is_copied", lambda self, constant: False),
        _instead(programs, "_strict", dict),
    )


def trial_of_a_function() -> AbstractContextManager[None]:
    """The trial run of a critic that is no module leaves what it has changed."""
    today = eligibility.examine

    def examine(network: Callable[..., Any], *args: Any) -> eligibility.Verdict:
        of_module = isinstance(network, nn.Module)
        with nullcontext() if of_module else _instead(Snapshot, "put_back", lambda self: None):
            return today(network, *args)

    return _instead(eligibility, "examine", examine)


def fallback_from_where_it_is() -> AbstractContextManager[None]:
    """A run that falls back starts with the state that the attempt has left."""
    today = choice.by_method

    def either(*args: Any) -> Any:
        with _instead(Snapshot, "put_back", lambda self: None):
            return today(*args)

    return _instead(critic, "by_method", either)


def hooks_on_nodes() -> AbstractContextManager[None]:
    """Hooks on the nodes of autograd that made an activation are ignored, and so are modules' backward hooks."""
    node = Tensor.grad_fn.__get__  # type: ignore[union-attr]
    return _instead(function_mode, "_SPECIAL", function_mode._SPECIAL - {node})


def refused_only_once() -> AbstractContextManager[None]:
    """A weight that autograd joins to the input is refused at its first use, and taken at the second."""

    def leads_to_input(self: Recorder, tensor: Tensor) -> bool:
        waiting: list[Any] = [tensor.grad_fn]
        while waiting:
            node = waiting.pop()
            if node is None or node in self._apart:
                continue
            if getattr(node, "variable", None) is self._x:
                return True
            self._apart.add(node)
            waiting.extend(parent for parent, _ in node.next_functions)
        return False

    return _instead(Recorder, "leads_to_input", leads_to_input)


def norms_ahead_of_their_use() -> AbstractContextManager[None]:
    """A group iterates all its layers before each forward pass, those that it does not use as well."""
    ahead = spectral_norm_ahead._Ahead

    def begin(forward_pass: Any) -> None:
        for each in forward_pass._ahead.values():
            with torch.no_grad():
                spectral_norm_ahead._write(each.operands, each.estimate)
        spectral_norm_ahead.begin(forward_pass)

    return _all(
        _instead(spectral_norm_group, "begin", begin),
        _instead(ahead, "holds", lambda self, now: now.weight is self.operands.weight),
    )


def map_as_its_mean() -> AbstractContextManager[None]:
    """The slopes of a map's places are taken for one number for each sample, as if the loss were of their mean."""

    def one_number(self: Form, slopes: Sequence[Tensor | None]) -> Tensor | None:
        used = [slope for slope in slopes if slope is not None]
        return used[0].reshape(self.samples, -1).mean(1) if len(used) == len(slopes) == 1 else today(self, slopes)

    today = Form.one_number
    return _instead(Form, "one_number", one_number)


FAULTS: dict[str, Fault] = {
    "": nullcontext,
    **{
        fault.__name__.replace("_", "-"): fault
        for fault in (
            overwritten_under_a_view,
            loss_of_outputs_only,
            filter_of_the_default_dtype,
            bias_of_one_number,
            bias_along_the_samples,
            stale_graphs,
            weights_without_version_checks,
            trial_of_a_function,
            fallback_from_where_it_is,
            hooks_on_nodes,
            refused_only_once,
            norms_ahead_of_their_use,
            map_as_its_mean,
        )
    },
}
"""By name; without a name there is none."""
