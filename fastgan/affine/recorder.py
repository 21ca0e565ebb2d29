"""F: runs a network as it is and records what its input goes through, operation by operation.

The network's own code runs at every call, under a dispatch mode that sees each ATen operation. So nothing is cached
that could be stale: replaced parameters, hooks, flags and Python control flow all have their effect, and weights may
come from anywhere (a parametrization, spectral norm, a label's embedding); autograd differentiates what makes them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from fastgan import allocation
from fastgan.affine.batch import Batch
from fastgan.affine.errors import NotAffineError
from fastgan.affine.rules import CONSTANT, FUNCTIONS, IN_PLACE, RULES
from fastgan.affine.tape import Node, Slot, Tape, Value

_MARK = "_fastgan_value"


class _RefusedError(NotAffineError):
    """An operation has been refused, once and for all."""


class _HandedOnError(NotAffineError):
    """The reason why a value was refused, with its place, met again by an operation on it."""


class Recorder(TorchDispatchMode):
    """Sees every operation of the network; those on tensors that depend on the input go to their rule."""

    def __init__(self, samples: int) -> None:
        super().__init__()
        self.tape = Tape(samples)
        self.samples = samples
        self.where: Callable[[], str] = str
        """Names the module that is running, for messages."""
        self.plain = False
        """Record nodes of torch's own operations only, for a compiler to fuse."""
        self.blame: Callable[[NotAffineError], None] | None = None
        """Told of every operation that is not affine, instead of stopping there."""
        # What this recorder's marks carry: tensors that carried the recorder itself would keep it alive in a cycle.
        self._token = object()
        self._apart: set[Any] = set()  # nodes of autograd's graph that are known not to lead to the input
        self._storages: dict[int, StorageWeakRef] = {}
        self._buffers: set[int] = set()

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
                raise NotAffineError(f"the autograd.Function {function.__name__} may have any backward")
        if torch.is_grad_enabled() and value.hidden and not isinstance(fn, BackwardCFunction):
            raise NotAffineError(f"the autograd function {fn.name() if fn else fn} may have any backward")
        if tensor._version != version:
            raise NotAffineError("an activation was modified in place through another view of it")
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
                raise NotAffineError("a weight was computed from the input by an operation of unknown derivative")
            return None
        self._check_apart(weight)
        return self.tape.slot(weight)

    def _check_apart(self, weight: Tensor) -> None:
        """Makes sure that autograd knows no way from a supposed weight to the input.

        There is one if a custom autograd.Function has hidden it, whose backward may be anything, or if a weight was
        made of the sign or the rounding of an activation, whose derivative is zero.
        """
        waiting: list[Any] = [weight.grad_fn]
        while waiting:
            node = waiting.pop()
            if node is None or node in self._apart:
                continue
            if getattr(node, "variable", None) is self._x:
                raise NotAffineError("a weight was computed from the input by an operation of unknown derivative")
            self._apart.add(node)
            waiting.extend(parent for parent, _ in node.next_functions)

    def add(self, node: Node, tensor: Tensor, batch: Batch, changed: bool = False) -> Tensor:
        """Appends a node whose output is this tensor; `changed`: it was an input, modified in place."""
        value = Value(tensor, batch)
        value.hidden = not torch.is_grad_enabled()
        node.output = value
        self.tape.nodes.append(node)
        self._mark(tensor, value, changed)
        return tensor

    # --- recording --------------------------------------------------------------------------------------------------

    def start(self, x: Tensor, network: Any) -> None:
        self._x = x
        if isinstance(network, torch.nn.Module):
            buffers = (buffer for buffer in network.buffers() if not torch.nn.parameter.is_lazy(buffer))
            self._buffers = {buffer.untyped_storage()._cdata for buffer in buffers}
        self.tape.input = Value(x, Batch(0, 1))
        self._mark(x, self.tape.input, changed=False)

    def _mark(self, tensor: Tensor, value: Value, changed: bool) -> None:
        # Autograd counts the change of an in-place operation only after the dispatch mode has returned.
        tensor.__dict__[_MARK] = (self._token, value, tensor._version + changed)
        storage = StorageWeakRef(tensor.untyped_storage())
        self._storages[storage.cdata] = storage

    def _marked(self, tensor: Tensor) -> bool:
        mark = tensor.__dict__.get(_MARK)
        return mark is not None and mark[0] is self._token and mark[1] is not None

    def marked(self, tensor: Any) -> bool:
        """Whether a tensor depends on the input."""
        return isinstance(tensor, Tensor) and self._marked(tensor)

    def refuse(self, error: NotAffineError) -> None:
        """Stops here, or goes on where every reason is wanted."""
        if self.blame is None:
            raise error
        self.blame(error)

    def keep(self, tensor: Tensor) -> None:
        """Lets autograd save this memory: the network has taken it for a constant, of which weights may be made."""
        self._storages.pop(tensor.untyped_storage()._cdata, None)

    def is_activation(self, tensor: Tensor) -> bool:
        """Whether a tensor that autograd is about to save is the memory of a recorded one."""
        known = self._storages.get(tensor.untyped_storage()._cdata)
        return known is not None and not known.expired()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if not any(self._marked(t) for t in _tensors(args, kwargs)):
            return func(*args, **kwargs)
        if func in CONSTANT:
            result = func(*args, **kwargs)
            # Autograd may think that it depends on the input (sign, round), but its derivative is zero.
            result.__dict__[_MARK] = (self._token, None, torch.is_grad_enabled())
            return result
        try:
            if not any(self.find(t) is not None for t in _tensors(args, kwargs)):
                return func(*args, **kwargs)
            rule = RULES.get(func)
            if rule is None and func not in IN_PLACE:
                return self._unknown(func, args, kwargs)
            if rule is None:
                return self._in_place(func, (args[0], *self._snapshot(args[1:])), kwargs)
            result = rule(self, func, self._snapshot(args), kwargs)
            if func.namespace == "fastgan":
                self.value_of(result).own = True
            if func.is_view:  # autograd lets a view share its base's count of changes once the mode has returned
                for view in _tensors(result if isinstance(result, (tuple, list)) else (result,), {}):
                    mark = view.__dict__.get(_MARK)
                    if mark is not None:
                        view.__dict__[_MARK] = (*mark[:2], args[0]._version)
            return result
        except _RefusedError:
            raise
        except NotAffineError as error:
            return self._refuse(error, func, args, kwargs)

    def _snapshot(self, args: Any) -> tuple:
        """The arguments with buffers copied, which the critic's next call may change before T reads them again.

        Other constants are watched: T raises if one has changed.
        """
        kept: list[Any] = []
        for a in args:
            if isinstance(a, (list, tuple)):
                a = type(a)(self._snapshot(a))
            elif isinstance(a, Tensor) and not a.requires_grad and self.find(a) is None:
                if self.plain or a.untyped_storage()._cdata in self._buffers:
                    a = a.clone()
                else:
                    self.tape.constants.append((a, a._version))
            kept.append(a)
        return tuple(kept)

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

    def _unknown(self, func: Any, args: tuple, kwargs: dict) -> Any:
        result = func(*args, **kwargs)
        outputs = list(_tensors(result if isinstance(result, (tuple, list)) else (result,), {}))
        if any(t.is_floating_point() or t.is_complex() for t in outputs):
            return self._refuse(NotAffineError(f"{func} is not known to be affine"), func, args, kwargs, result)
        return result  # integers, truth values and Python numbers are locally constant

    def _refuse(self, error: NotAffineError, func: Any, args: tuple, kwargs: dict, *done: Any) -> Any:
        """Stops, or goes on where autograd is off and may never see this, or where every reason is wanted.

        `done` is the operation's result, if it has run.
        """
        if torch.is_grad_enabled():
            if self.blame is None:
                raise _RefusedError(str(error))
            self.blame(error)
        result = done[0] if done else func(*args, **kwargs)
        for tensor in _tensors(result if isinstance(result, (tuple, list)) else (result,), {}):
            folded, rest = divmod(tensor.shape[0] if tensor.ndim else 0, self.samples)
            value = Value(tensor, Batch(0, 1 if rest else folded))
            if not torch.is_grad_enabled():
                place = "" if isinstance(error, _HandedOnError) else self.where()
                value.hidden, value.reason = True, f"{error}{place}"
            self._mark(tensor, value, changed=any(tensor is t for t in args))
        return result


def _tensors(args: Any, kwargs: dict) -> Iterator[Tensor]:
    for a in args:
        if isinstance(a, Tensor):
            yield a
        elif isinstance(a, (list, tuple)):
            yield from _tensors(a, {})
    for a in kwargs.values():
        if isinstance(a, Tensor):
            yield a


class _BehindAutograd(TorchFunctionMode):
    """Sees what no operation shows: hooks on activations, and ways to their memory past autograd."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func in _HOOKS and self.recorder.marked(args[0]):
            self.recorder.refuse(NotAffineError(f"{func.__name__} on an activation: a hook may change its gradient"))
        elif func in _MEMORY and self.recorder.marked(args[0]):
            self.recorder.refuse(
                NotAffineError("the memory of an activation is reached past autograd (.data, .numpy())")
            )
        elif func in _DETACH and self.recorder.marked(args[0]):
            self.recorder.keep(args[0])
        return func(*args, **(kwargs or {}))


_HOOKS = frozenset({Tensor.register_hook, Tensor.register_post_accumulate_grad_hook})
_MEMORY = frozenset({Tensor.data.__get__, Tensor.data.__set__, Tensor.numpy, Tensor.__array__})  # type: ignore[attr-defined]
_DETACH = frozenset({Tensor.detach, torch.detach})


class _Dropped:
    """Stands for an activation that autograd wanted to keep: the tape has what the passes need."""


@contextmanager
def _without_activations(recorder: Recorder) -> Iterator[None]:
    """Keeps autograd from saving activations; what makes the weights is saved as ever."""

    def pack(tensor: Tensor) -> Any:
        return _Dropped if recorder.is_activation(tensor) else tensor

    def unpack(packed: Any) -> Tensor:
        if packed is _Dropped:
            raise NotAffineError("the critic differentiates its own activations: use method='double_backward'")
        return packed

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield


def record(
    network: Callable[..., Tensor],
    x: Tensor,
    *rest: Any,
    blame: Callable[[NotAffineError], None] | None = None,
    where: Callable[[], str] = str,
    plain: bool = False,
) -> tuple[Tensor, Tape]:
    """F: calls network(x, *rest) and records it.

    Args:
        network: any callable; one number per sample is expected of it.
        x: [samples, ...]; treated as the variable, whatever its own history.
        rest: further arguments, e.g. labels; constants, though gradients flow to the weights that embed them.
        blame: called for every operation that is not affine; without it the first one raises.
        where: the name of the module that is running, for messages.
        plain: keep masks in torch's own operations, for a compiler to fuse, not in fastgan's kernels.

    Returns:
        The output, detached, and the tape; with `blame`, the tape is of no use unless it was never called.

    Raises:
        NotAffineError: the network is not piecewise affine in x sample by sample; says which operation is not.
    """
    if x.device.type == "cpu":
        allocation.keep_freed_memory()
    recorder = Recorder(x.shape[0])
    recorder.blame, recorder.where, recorder.plain = blame, where, plain
    recorder.tape.in_place = not plain
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        recorder.start(x, network)
        with _without_activations(recorder), _BehindAutograd(recorder), recorder:
            y = network(x, *rest)
            if not isinstance(y, Tensor):
                raise NotAffineError(f"the output is a {type(y).__name__}, expected one tensor")
            try:
                output = recorder.find(y)
            except NotAffineError as refusal:  # of what came after the last operation, like a hook
                recorder.refuse(refusal)
                return y.detach(), recorder.tape
            if any(constant._version != version for constant, version in recorder.tape.constants):
                recorder.refuse(NotAffineError("a constant was modified in place after the critic had read it"))
    if output is None:
        error = NotAffineError("the output does not depend on the input")
        if blame is None:
            raise error
        blame(error)
        return y.detach(), recorder.tape
    if y.numel() != recorder.samples or output.batch.folded != 1:
        error = NotAffineError(f"the output has shape {list(y.shape)}, expected one number for each sample")
        if blame is None:
            raise error
        blame(error)
    recorder.tape.finish(output)
    return y.detach(), recorder.tape
