"""What no operation shows: hooks on activations, ways to their memory past autograd, values taken for constants."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from fastgan.affine.errors import NotAffineError
from fastgan.affine.saved_tensors import SavedTensors


class Watching(Protocol):
    """What is asked of the recorder."""

    saved: SavedTensors

    def marked(self, tensor: Any) -> bool: ...
    def refuse(self, error: NotAffineError) -> None: ...
    def before(self, args: tuple, kwargs: dict) -> None: ...


class BehindAutograd(TorchFunctionMode):
    """Sees the calls of torch's functions before autograd does."""

    def __init__(self, recorder: Watching) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        reason = _REFUSED.get(func)
        if reason is not None and self.recorder.marked(args[0]):
            self.recorder.refuse(NotAffineError(reason))
        elif func in _DETACH and self.recorder.marked(args[0]):
            self.recorder.saved.keep(args[0])
        elif torch.is_grad_enabled():
            self.recorder.before(args, kwargs or {})
        return func(*args, **(kwargs or {}))


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
