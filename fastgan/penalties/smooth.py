"""Finds out whether a critic is smooth in its samples, so that differences may stand for second derivatives.

`Smoothness` is a dispatch mode for one trial run. It follows what is computed from the samples from operation to
operation, whoever holds it, and remembers of each block of memory why what lies there is not smooth. Smooth is what is
known to be: an operation that is not on the list makes its result rough. Only what reaches the output counts.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastgan._torch_private import (
    BackwardCFunction,
    StorageWeakRef,
    TorchDispatchMode,
    is_functorch_wrapped,
    sequence_number,
    tree_leaves,
)
from fastgan.affine.memory import block_of
from fastgan.penalties.smooth_operations import KINKS, OURS, SHAPE_ONLY, SMOOTH, SMOOTH_ACTIVATIONS
from fastgan.penalties.state import has_memory, overwritten

_HAND_ON = frozenset(("RegisterPostBackwardFunction",))
"""Functions of PyTorch's wrappers (fully_shard) that change nothing."""

NORM_FLOOR = 1e-4
"""A clamp of norms at least at such a number is known: `F.normalize` divides by one."""


class _Nothing:
    """Keeps nothing."""

    def keep(self, tensor: Tensor) -> None:
        return


class Smoothness(TorchDispatchMode):
    """Follows the samples x through a critic that runs under it.

    Args:
        x: the samples, a leaf that requires a gradient.
        where: names the module that is running, for messages.

    Attributes:
        random: the first operation that has drawn random numbers; None if none has.
        lowest: the least precise floating dtype that anything computed from x had.
        outside: tensors with a history of before this run that were used in it.
        saved: what `BehindAutograd` keeps a detached tensor in; nothing here.
    """

    saved = _Nothing()

    def __init__(self, x: Tensor, where: Callable[[], str] = str) -> None:
        super().__init__()
        self.x, self.where = x, where
        self.random: str | None = None
        self.lowest = x.dtype
        self._rough: dict[int, tuple[StorageWeakRef, str | None]] = {}
        """For each block of memory that depends on x: why what lies there is not smooth, or None."""
        self._left: str | None = None
        """What has left PyTorch for Python, whose arithmetic is not seen, or may change a gradient."""
        self._norms: dict[int, StorageWeakRef] = {}
        self._since = sequence_number(x.view_as(x).grad_fn)
        self._outside: dict[int, Tensor] = {}
        self._remember([x], None)

    @property
    def outside(self) -> list[Tensor]:
        return list(self._outside.values())

    # --- what `BehindAutograd` asks and tells -------------------------------------------------------------------------

    def marked(self, tensor: Any) -> bool:
        return self.follows(tensor)

    def refuse(self, error: Exception) -> None:
        self._left = self._left or f"{error}{self.where()}"

    def before(self, args: tuple, kwargs: dict) -> None:
        return

    # ------------------------------------------------------------------------------------------------------------------

    def why_not(self, y: Tensor) -> str | None:
        """Why what the critic has returned is not smooth in x; None if it is."""
        if not self.follows(y):
            return self._left or "the output does not depend on the samples"
        return self._why(y) or self._left or (self._hidden_by(y) if y.requires_grad else "the output is detached")

    def follows(self, y: Any) -> bool:
        """Whether it is a tensor that depends on x."""
        known = self._rough.get(block_of(y)) if isinstance(y, Tensor) and has_memory(y) else None
        return known is not None and not known[0].expired()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if any(isinstance(t, Tensor) and is_functorch_wrapped(t) for t in tree_leaves((args, kwargs))):
            self._left = self._left or f"a transform of torch.func is at work{self.where()}"
        given = _tensors((args, kwargs))
        call = _Call(func, args, kwargs)
        followed = [t for t in given if self.follows(t) and not call.only_updates(t)]
        reads = bool(followed) and not call.reads_shapes
        why = self._why_rough_before(call, followed) if reads else None
        if torch.is_grad_enabled():
            self._note_outside(given)
        result = func(*args, **kwargs)
        if self.random is None and call.draws:
            self.random = f"{func}{self.where()}"
        made = [*_tensors(result), *overwritten(func, args, kwargs)]
        if reads:
            if not made:
                self._left = self._left or f"{func} makes a Python number of the samples{self.where()}"
            self._remember(made, why or self._why_rough_now(call, made))
            if call.name == "linalg_vector_norm":
                self._norms.update((block_of(t), StorageWeakRef(t.untyped_storage())) for t in made)
        else:  # memory that was freed, and now holds something else
            kept = {block_of(t) for t in given}
            for t in made:
                if block_of(t) not in kept:
                    self._rough.pop(block_of(t), None)
        return result

    # --- what one operation makes of it -------------------------------------------------------------------------------

    def _note_outside(self, given: list[Tensor]) -> None:
        for t in given:
            if t.grad_fn is not None and sequence_number(t.grad_fn) < self._since:
                self._outside.setdefault(id(t), t)

    def _why_rough_before(self, call: "_Call", followed: list[Tensor]) -> str | None:
        """Why one of the arguments is not smooth in x already; None if all are."""
        if not torch.is_grad_enabled():
            for t in overwritten(call.func, call.args, call.kwargs):
                if t.grad_fn is not None:
                    return f"a tensor is changed in place where autograd is off (no_grad){self.where()}"
        for t in followed:
            if (why := self._why(t)) is not None:
                return why
        if torch.is_grad_enabled():
            for t in followed:
                if t.grad_fn is None and t is not self.x:
                    return f"a function of the samples is taken for a constant (detach, no_grad){self.where()}"
                if (why := self._hidden_by(t)) is not None:
                    return why
        return None

    def _why_rough_now(self, call: "_Call", made: list[Tensor]) -> str | None:
        """Why what an operation has made of smooth arguments is not smooth; None if it is."""
        if made and not any(t.is_floating_point() or t.is_complex() for t in made):
            return f"{call.func} makes integers or truth values of the samples, which choose something{self.where()}"
        why = self._kink_in(call)
        return why and why + self.where()

    def _kink_in(self, call: "_Call") -> str | None:
        name, func = call.name, call.func
        if name in ("clamp_min", "clamp") and self._is_floor_of_norms(call):
            return None
        if name in KINKS:
            return f"{func} has a kink"
        if func.namespace == "fastgan":
            smooth = name in OURS and call.argument("act") in SMOOTH_ACTIVATIONS and call.argument("clamp") is None
        else:
            smooth = name in SMOOTH
        if not smooth:
            return f"{func} is not known to be smooth"
        if name.startswith("grid_sampler") and self.follows(call.argument("grid")):
            return f"{func} has kinks in its grid"
        if name in ("linalg_vector_norm", "norm") and call.argument("ord" if "linalg" in name else "p") not in (
            2,
            None,
        ):
            return f"{func} of another order than 2 has kinks"
        if name == "pow" and not _is_smooth_power(call.argument("self"), call.argument("exponent")):
            return f"{func} may have a kink: its exponent is no whole number"
        if name == "softplus" and call.argument("threshold") < 20:
            return f"{func} has a kink at its threshold"
        return None

    def _is_floor_of_norms(self, call: "_Call") -> bool:
        """Whether it keeps norms, none of which is near 0, from being so."""
        norms, least = call.argument("self"), call.argument("min")
        known = self._norms.get(block_of(norms))
        return (
            known is not None
            and not known.expired()
            and call.argument("max") is None
            and isinstance(least, (int, float))
            and least <= NORM_FLOOR
            and bool((norms > 10 * least).all())
        )

    def _hidden_by(self, t: Tensor) -> str | None:
        """The autograd.Function that made a tensor, unless its backward is known to be that of what it runs."""
        if not isinstance(t.grad_fn, BackwardCFunction):
            return None
        function: type = t.grad_fn._forward_cls
        if function.__name__ == "CheckpointFunction":
            return f"a region is checkpointed with use_reentrant=True, expected use_reentrant=False{self.where()}"
        if not may_have_any_backward(t.grad_fn):
            return None
        return f"the autograd.Function {function.__name__} may have any backward"

    # --- what is known of memory --------------------------------------------------------------------------------------

    def _why(self, t: Tensor) -> str | None:
        return self._rough[block_of(t)][1]

    def _remember(self, made: list[Tensor], why: str | None) -> None:
        for t in made:
            reason = why
            if self.follows(t):  # a view, or changed in place: what was rough stays so
                reason = self._why(t) or reason
            elif (t.is_floating_point() or t.is_complex()) and _epsilon(t) > torch.finfo(self.lowest).eps:
                self.lowest = t.dtype.to_real()
            storage = StorageWeakRef(t.untyped_storage())
            self._rough[storage.cdata] = storage, reason


class _Call(NamedTuple):
    """A call of an ATen operation."""

    func: Any
    args: tuple
    kwargs: dict

    @property
    def name(self) -> str:
        return _name(self.func)

    @property
    def draws(self) -> bool:
        """Whether it draws random numbers; attention does for dropout."""
        return torch.Tag.nondeterministic_seeded in self.func.tags and self.argument("dropout_p") != 0

    @property
    def reads_shapes(self) -> bool:
        """Whether it reads no more than the shapes of tensors; `bernoulli` may read probabilities."""
        return self.name in SHAPE_ONLY and (self.name != "bernoulli" or isinstance(self.argument("p"), float))

    def only_updates(self, t: Tensor) -> bool:
        """Whether t is a running statistic, which a batch norm does not read in training."""
        training = self.argument("training") or self.argument("train")
        return bool(training) and (t is self.argument("running_mean") or t is self.argument("running_var"))

    def argument(self, name: str) -> Any:
        """An argument by its name in the schema, or its default; None if the operation has no such argument."""
        for i, argument in enumerate(self.func._schema.arguments):
            if argument.name == name:
                value = self.args[i] if i < len(self.args) else self.kwargs.get(name)
                return argument.default_value if value is None else value
        return None


def _name(func: Any) -> str:
    """The name of an operation without its overload, and that of the one that it does in place or as a copy."""
    name = func._schema.name.split("::")[1]
    if name.endswith("_") and not name.endswith("__"):
        return name[:-1]
    return name.removesuffix("_copy") if name not in ("_to_copy", "index_copy") else name


def _tensors(tree: Any) -> list[Tensor]:
    return [t for t in tree_leaves(tree) if isinstance(t, Tensor) and has_memory(t)]


def _is_smooth_power(base: Any, p: Any) -> bool:
    """Whether base^p is: a whole power, a root of what is positive where the critic is defined, or a positive base."""
    if isinstance(p, (int, float)):
        return p < 0 or float(p).is_integer() or p == 0.5
    return isinstance(base, (int, float)) and base > 0


def _epsilon(t: Tensor) -> float:
    return torch.finfo(t.dtype).eps


def may_have_any_backward(node: Any) -> bool:
    """Whether a node of autograd's graph is that of a Function which is neither ours nor known to hand gradients on."""
    if not isinstance(node, BackwardCFunction):
        return node is not None and "CppNode" in node.name()
    function: type = node._forward_cls  # type: ignore[attr-defined]
    return not function.__module__.startswith("fastgan.") and function.__name__ not in _HAND_ON
