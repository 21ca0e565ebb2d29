"""The recorder runs a network as it is and records the operations on its input, one by one (the pass F).

The network's own code runs at every call, under a dispatch mode that sees each ATen operation. So nothing is cached
that could be stale: replaced parameters, hooks, flags and Python control flow all have their effect, and weights may
come from anywhere (a parametrization, spectral norm, a label's embedding); autograd differentiates what makes them.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from fastgan._torch_private import BackwardCFunction, TorchDispatchMode
from fastgan.affine.batch import BatchDim
from fastgan.affine.errors import NotAffineError
from fastgan.affine.memory import block_of
from fastgan.affine.rules import ADDITIONS, CONSTANT, FUNCTIONS, IN_PLACE, RULES
from fastgan.affine.saved_tensors import KeptGraph, SavedTensors
from fastgan.affine.tape import Node, Slot, Tape, Value
from fastgan.affine.versions import version_of

_METADATA = frozenset(
    (
        torch.ops.prim.device.default,
        torch.ops.prim.layout.default,
        torch.ops.aten.sym_size.default,
        torch.ops.aten.sym_stride.default,
        torch.ops.aten.sym_numel.default,
        torch.ops.aten.sym_storage_offset.default,
        torch.ops.aten.is_contiguous.default,
        torch.ops.aten.is_contiguous.memory_format,
        torch.ops.aten.is_strides_like_format.default,
        torch.ops.aten.is_non_overlapping_and_dense.default,
    )
)
"""What C++ asks a compiler's tensors without data in the middle of an operation: an exception ends the process."""

_MARK = "_fastgan_value"
_INPUT = "_fastgan_input"
_SUPPOSED = "a supposed weight was computed from the input by an operation of unknown derivative"


class _RefusedError(NotAffineError):
    """An operation was refused; not caught by the recorder again."""


class _HandedOnError(NotAffineError):
    """An operation on a value that was refused before; the message has the original reason and module."""


class Recorder(TorchDispatchMode):
    """Sees every operation of the network; those on tensors that depend on the input go to their rule.

    Args:
        samples: the size of the batch.
        where: names the module that is running, for messages.
        blame: told of every operation that is not affine, instead of stopping there.
        plain: record nodes of torch's own operations only, for a compiler to fuse.
        saved: what autograd saves.
    """

    def __init__(
        self,
        samples: int,
        where: Callable[[], str],
        blame: Callable[[NotAffineError], None] | None,
        plain: bool,
        saved: SavedTensors | KeptGraph,
    ) -> None:
        super().__init__()
        self.tape = Tape(samples, in_place=not plain)
        self.samples, self.where, self.blame, self.plain = samples, where, blame, plain
        self.saved = saved
        # What this recorder's marks carry: tensors that carried the recorder itself would keep it alive in a cycle.
        self._token = object()
        self._apart: set[Any] = set()  # nodes of autograd's graph that are known not to lead to the input
        self._changed: dict[int, str] = {}  # storages that were modified in place -> the module that did it
        self._buffers: set[int] | None = None  # their storages, once one is asked for
        self._without_grad = False  # whether anything was computed from the input where autograd is off

    # --- what the rules use -----------------------------------------------------------------------------------------

    def find(self, tensor: Any) -> Value | None:
        """The value of a tensor if it depends on the input and autograd can see that it does."""
        mark = tensor.__dict__.get(_MARK) if isinstance(tensor, Tensor) else None
        if mark is None or mark[0] is not self._token:
            return None
        _, value, version = mark
        if value is None:
            return None
        fn = tensor.grad_fn
        if torch.is_grad_enabled() and fn is None and value is not self.tape.input:
            return None  # made under torch.no_grad(): a constant, as for autograd
        # The next two are checked where autograd is off too: inside of the Function of an op.
        if value.reason is not None:
            raise _HandedOnError(value.reason)
        if isinstance(fn, BackwardCFunction):
            function = fn._forward_cls  # type: ignore[attr-defined]
            # TorchDynamo runs every autograd.Function as one of this name.
            known = function in FUNCTIONS or (value.own and function.__name__ == "ApplyTemplate")
            if not known:
                raise _HandedOnError(f"the autograd.Function {function.__name__} may have any backward{value.place}")
        if torch.is_grad_enabled() and value.hidden and not isinstance(fn, BackwardCFunction):
            raise _HandedOnError(f"the autograd function {fn.name() if fn else fn} may have any backward{value.place}")
        if version_of(tensor) != version:
            place = self._changed.get(block_of(tensor), "")
            raise _HandedOnError(f"an activation was modified in place through another view of it{place}")
        return value

    @staticmethod
    def value_of(tensor: Tensor) -> Value:
        """The value of a tensor that was just recorded."""
        return tensor.__dict__[_MARK][1]

    def value(self, tensor: Tensor) -> Value:
        """The value of a tensor that must depend on the input."""
        value = self.find(tensor)
        assert value is not None
        return value

    def slot(self, weight: Tensor) -> Slot | None:
        """Where the gradient of a weight goes; None if nobody asks for it."""
        if not weight.requires_grad:
            return None
        mark = weight.__dict__.get(_MARK)
        if mark is not None and mark[0] is self._token and mark[1] is None:
            if not mark[2]:  # made where autograd was off, it has got its history from a custom function since
                raise NotAffineError(
                    "a supposed weight was computed from the input by an operation of unknown derivative"
                )
            return None
        if self.leads_to_input(weight):
            raise NotAffineError(_SUPPOSED)
        return self.tape.slot(weight)

    def leads_to_input(self, tensor: Tensor) -> bool:
        """Whether autograd knows a way from a tensor to the input.

        There is one from a supposed weight if a custom autograd.Function has hidden it, whose backward may be anything,
        or if the weight was made of the sign or the rounding of an activation, whose derivative is zero.

        Raises:
            NotAffineError: it leads to the input of an earlier recording, whose activations were not saved.
        """
        seen: set[Any] = set()
        waiting: list[Any] = [tensor.grad_fn]
        while waiting:
            node = waiting.pop()
            if node is None or node in self._apart or node in seen:
                continue
            leaf = getattr(node, "variable", None)
            if leaf is self._x:
                return True
            if leaf is not None and was_recorded(leaf):
                raise NotAffineError("a weight is an activation that an earlier call of the critic has kept")
            seen.add(node)
            waiting.extend(parent for parent, _ in node.next_functions)
        self._apart |= seen
        return False

    def add(self, node: Node, tensor: Tensor, batch: BatchDim, changed: bool = False) -> Tensor:
        """Appends a node whose output is this tensor; `changed`: it was an input, modified in place."""
        if tensor.is_complex():  # the derivatives of complex products conjugate, and the nodes do not
            raise NotAffineError("complex numbers are computed from the input")
        if tensor.ndim and tensor.shape[batch.dim] != self.samples * batch.folded:
            raise NotAffineError("the only sample is broadcast against several constants")
        value = Value(tensor, batch)
        value.hidden, value.place = not torch.is_grad_enabled(), self.where()
        node.output = value
        self.tape.nodes.append(node)
        self._mark(tensor, value, changed)
        return tensor

    # --- what is watched besides the operations ---------------------------------------------------------------------

    def marked(self, tensor: Any) -> bool:
        """Whether a tensor depends on the input."""
        return isinstance(tensor, Tensor) and self._marked(tensor)

    def refuse(self, error: NotAffineError) -> None:
        """Raises the error; or passes it to `blame`, if given, and goes on."""
        if self.blame is None:
            raise error
        self.blame(error)

    def before(self, args: tuple, kwargs: dict) -> None:
        """Called before autograd sees an operation; keeps arguments that were computed under torch.no_grad()."""
        self.saved.instead_of_checkpoint()
        if self._without_grad:
            for tensor in _tensors(args, kwargs):
                if self._marked(tensor) and tensor.grad_fn is None and tensor is not self._x:
                    self.saved.keep(tensor)

    # --- recording --------------------------------------------------------------------------------------------------

    def start(self, x: Tensor, buffers: Iterable[Tensor]) -> None:
        """Makes x the input; `buffers` may be changed by the network's next call: copied where T needs them."""
        if x.is_complex():
            self.refuse(NotAffineError("the input is complex"))
        self._x, self._given_buffers = x, buffers
        x.__dict__[_INPUT] = True
        self.saved.keep(x)  # the samples' memory is their owner's: labels may lie in it, of which weights are made
        self.tape.input = Value(x, BatchDim(0, 1))
        self._mark(x, self.tape.input, changed=False)

    def _mark(self, tensor: Tensor, value: Value, changed: bool) -> None:
        # Autograd counts the change of an in-place operation only after the dispatch mode has returned.
        tensor.__dict__[_MARK] = (self._token, value, version_of(tensor) + changed)
        self.saved.drop(tensor)
        self._without_grad |= not torch.is_grad_enabled()
        if changed:
            self._changed[block_of(tensor)] = self.where()

    def _marked(self, tensor: Tensor) -> bool:
        mark = tensor.__dict__.get(_MARK)
        return mark is not None and mark[0] is self._token and mark[1] is not None

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if self.plain and func in _METADATA:
            return func(*args, **kwargs)
        if not torch.is_grad_enabled():  # in an autograd.Function; `before` has done it for other operations
            self.saved.instead_of_checkpoint()
        marked = [t for t in _tensors(args, kwargs) if self._marked(t)]
        if not marked:
            return func(*args, **kwargs)
        if func in CONSTANT:
            result = func(*args, **kwargs)
            # Autograd may think that it depends on the input (sign, round), but its derivative is zero.
            result.__dict__[_MARK] = (self._token, None, torch.is_grad_enabled())
            return result
        try:
            if all(self.find(t) is None for t in marked):
                return func(*args, **kwargs)
            rule = RULES.get(func)
            if rule is None and func not in IN_PLACE:
                return self._unknown(func, args, kwargs)
            watched: list[tuple[Tensor, int]] = []
            before = len(self.tape.nodes)
            if rule is None:
                result = self._in_place(func, (args[0], *self._snapshot(IN_PLACE[func], args[1:], watched)), kwargs)
            else:
                result = rule(self, func, self._snapshot(func, args, watched), kwargs)
            for node in self.tape.nodes[before:]:
                node.watched = watched
            if rule is None:
                return result
            if func.namespace == "fastgan":
                self.value_of(result).own = True
            if func.is_view:  # autograd lets a view share its base's count of changes once the mode has returned
                for view in _outputs(result):
                    mark = view.__dict__.get(_MARK)
                    if mark is not None:
                        view.__dict__[_MARK] = (*mark[:2], version_of(args[0]))
            return result
        except _RefusedError:
            raise
        except NotAffineError as error:
            return self._refuse(error, func, args, kwargs)
        except Exception as error:
            return self._unexpected(error, func, args, kwargs)

    def _snapshot(self, func: Any, args: Any, watched: list[tuple[Tensor, int]]) -> tuple:
        """The arguments, with constants copied that the critic may change before the pass T reads them again.

        These are buffers, and whatever is added: autograd needs no addend again and lets it change. Other constants
        join those that are watched: T raises if one has changed, as autograd does.
        """
        kept: list[Any] = []
        for a in args:
            if isinstance(a, (list, tuple)):
                a = type(a)(self._snapshot(func, a, watched))
            elif isinstance(a, Tensor) and not a.requires_grad and self.find(a) is None:
                if self.plain or func in ADDITIONS or self._is_buffer(a):
                    a = a.clone()
                else:
                    watched.append((a, version_of(a)))
            kept.append(a)
        return tuple(kept)

    def _is_buffer(self, tensor: Tensor) -> bool:
        if self._buffers is None:
            self._buffers = {block_of(buffer) for buffer in self._given_buffers}
        return block_of(tensor) in self._buffers

    def _in_place(self, func: Any, args: tuple, kwargs: dict) -> Tensor:
        """Runs the functional form and copies its result over the first argument."""
        target = args[0]
        if self.find(target) is None:
            raise NotAffineError(f"{func} writes an activation into a tensor that does not depend on the input")
        if IN_PLACE[func].is_view:
            raise NotAffineError(f"{func} makes a view of an activation in place")
        result = RULES[IN_PLACE[func]](self, IN_PLACE[func], args, kwargs)
        _, value, _ = result.__dict__[_MARK]
        if result is not target:
            target.copy_(result)
        value.shape, value.dtype = tuple(target.shape), target.dtype
        self._mark(target, value, changed=True)
        return target

    # --- what is not affine -----------------------------------------------------------------------------------------

    def _unknown(self, func: Any, args: tuple, kwargs: dict) -> Any:
        result = func(*args, **kwargs)
        if any(t.is_floating_point() or t.is_complex() for t in _outputs(result)):
            return self._refuse(NotAffineError(f"{func} is not known to be affine"), func, args, kwargs, result)
        return result  # integers, truth values and Python numbers are locally constant

    def _unexpected(self, error: Exception, func: Any, args: tuple, kwargs: dict) -> Any:
        """Refuses arguments that a rule did not expect; if they are wrong, the operation itself raises."""
        reason = f"{func} of such arguments is not known to be affine ({type(error).__name__}: {error})"
        if func._schema.is_mutable:  # it may have run, and must not a second time
            raise _RefusedError(reason) from error
        return self._refuse(NotAffineError(reason), func, args, kwargs, func(*args, **kwargs))

    def _refuse(self, error: NotAffineError, func: Any, args: tuple, kwargs: dict, *done: Any) -> Any:
        """Refuses an operation: raises, unless autograd is off (and may never see it) or `blame` collects the reasons.

        `done` is the operation's result, if it has run.
        """
        if torch.is_grad_enabled():
            if self.blame is None:
                raise _RefusedError(str(error))
            self.blame(error)
        result = done[0] if done else func(*args, **kwargs)
        for tensor in _outputs(result):
            folded, rest = divmod(tensor.shape[0] if tensor.ndim else 0, self.samples)
            value = Value(tensor, BatchDim(0, 1 if rest else folded))
            value.place = self.where()
            if not torch.is_grad_enabled():
                place = "" if isinstance(error, _HandedOnError) else value.place
                value.hidden, value.reason = True, f"{error}{place}"
            self._mark(tensor, value, changed=any(tensor is t for t in args))
        return result


def was_recorded(leaf: Tensor) -> bool:
    """Whether a leaf of autograd's graph is the input of a recording: what was saved on the way from it was dropped."""
    return _INPUT in leaf.__dict__


def _tensors(args: Any, kwargs: dict) -> list[Tensor]:
    found = []
    for a in args:
        if isinstance(a, Tensor):
            found.append(a)
        elif isinstance(a, (list, tuple)):
            found += _tensors(a, {})
    if kwargs:
        found += [a for a in kwargs.values() if isinstance(a, Tensor)]
    return found


def _outputs(result: Any) -> list[Tensor]:
    return _tensors(result if isinstance(result, (tuple, list)) else (result,), {})
