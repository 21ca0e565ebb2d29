"""`with fastgan.accelerated():` for code that calls torch's functions rather than modules."""

from typing import Any

import torch

from fastgan.acceleration.calls import recording
from fastgan.penalties.lean import lean_derivatives


class accelerated(lean_derivatives):  # noqa: N801 (a context manager)
    """A context in which functions of torch that a model calls are fastgan's: F.conv2d, F.relu and others.

        with fastgan.accelerated():
            loss = criterion(critic(x))

    The values and first derivatives are torch's, the second derivatives do no needless work. What is differentiated
    twice outside is so too. Another TorchFunctionMode that is active gets torch's functions. For functions that are
    called outside of modules; `accelerate` does those inside.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if torch.compiler.is_compiling() or recording():  # see fastgan/acceleration/calls.py
            return func(*args, **(kwargs or {}))
        return super().__torch_function__(func, types, args, kwargs)
