"""Watches for what the dispatched operations do not show: hooks on activations, `.data`, `.numpy()`, `.detach()`."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from fastgan._torch_private import innermost_dispatch_mode
from fastgan.affine.errors import NotAffineError


class Keeping(Protocol):
    """What is told of detached tensors, whose memory is to be kept."""

    def keep(self, tensor: Tensor) -> None: ...


class Watching(Protocol):
    """The recorder as `BehindAutograd` sees it: the methods documented in `Recorder`."""

    @property
    def saved(self) -> Keeping: ...

    def marked(self, tensor: Any) -> bool: ...
    def refuse(self, error: NotAffineError) -> None: ...
    def before(self, args: tuple, kwargs: dict) -> None: ...


class BehindAutograd(TorchFunctionMode):
    """A function mode that sees calls of torch's functions before autograd does, while a network is recorded."""

    def __init__(self, recorder: Watching) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func in _SPECIAL:
            if func not in _INSIDE_AUTOGRAD and self.recorder.marked(args[0]) and not self._called_by_recorder():
                self._special(func, args[0])
        elif torch.is_grad_enabled():
            self.recorder.before(args, kwargs or {})
        return func(*args, **(kwargs or {}))

    def _special(self, func: Any, activation: Tensor) -> None:
        if func in _DETACH:
            self.recorder.saved.keep(activation)
        else:
            self.recorder.refuse(NotAffineError(_REFUSED[func]))

    def _called_by_recorder(self) -> bool:
        """Whether the recorder itself makes this call: its dispatch mode is not active then."""
        return innermost_dispatch_mode() is not self.recorder


_REFUSED: dict[Callable[..., Any], str] = {
    **dict.fromkeys(
        (Tensor.register_hook, Tensor.register_post_accumulate_grad_hook),
        "a hook on an activation may change its gradient",
    ),
    Tensor.grad_fn.__get__: "the autograd node of an activation is reached: a hook on it may change its gradient",  # type: ignore[union-attr]
    Tensor.retain_grad: "the gradient of an activation is to be retained",
    **dict.fromkeys(
        (Tensor.data.__get__, Tensor.data.__set__, Tensor.numpy, Tensor.__array__),  # type: ignore[attr-defined]
        "the memory of an activation is reached past autograd (.data, .numpy())",
    ),
}
_DETACH = frozenset({Tensor.detach, torch.detach})
_INSIDE_AUTOGRAD: frozenset[Any] = frozenset({Tensor._backward_hooks.__set__})  # type: ignore[union-attr]
"""Autograd calls this while it makes a view's node anew and holds its lock: asking for the node would wait forever."""
_SPECIAL = _DETACH | _REFUSED.keys() | _INSIDE_AUTOGRAD
