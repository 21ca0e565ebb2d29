"""Critics in wrappers: torch.compile's, DataParallel's and DistributedDataParallel's."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fastgan.penalties.result import CriticLoss


def unwrap(critic: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The network itself, whose operations can be seen."""
    while True:
        if isinstance(critic, DistributedDataParallel) or (
            isinstance(critic, nn.DataParallel) and not critic.device_ids
        ):
            critic = critic.module
        elif isinstance(critic, nn.Module) and "_orig_mod" in critic._modules:  # torch.compile(module)
            critic = critic._modules["_orig_mod"]  # type: ignore[assignment]
        else:
            return critic


def inside(critic: Callable[..., Tensor], body: Callable[..., CriticLoss], *inputs: Tensor) -> CriticLoss:
    """body(), run as the forward pass of a DistributedDataParallel critic if it is one.

    Its forward pass is where the wrapper prepares for the gradients to be averaged; they are when they arrive in the
    parameters, as ever.
    """
    if not isinstance(critic, DistributedDataParallel):
        return body()
    module, found = critic.module, []

    previous = module.__dict__.get("forward")

    def put_back() -> None:
        module.__dict__.pop("forward", None)
        if previous is not None:
            module.forward = previous

    def forward(*_: Any, **__: Any) -> Tensor:
        put_back()  # the body calls the module itself
        found.append(body())
        return found[0]

    module.forward = forward
    try:
        total = critic(*(x.detach() for x in inputs))
    finally:
        put_back()
    result = total.as_subclass(CriticLoss)
    result.__dict__.update(found[0].__dict__)
    return result
