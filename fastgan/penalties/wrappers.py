"""Takes a critic out of its wrappers: torch.compile's, DataParallel's and DistributedDataParallel's."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fastgan.penalties.result import CriticLoss


def unwrap(critic: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The network inside its wrappers."""
    while True:
        if isinstance(critic, DistributedDataParallel) or (
            isinstance(critic, nn.DataParallel) and not critic.device_ids
        ):
            critic = critic.module
        elif isinstance(critic, nn.Module) and "_orig_mod" in critic._modules:  # torch.compile(module)
            critic = critic._modules["_orig_mod"]  # type: ignore[assignment]
        else:
            return critic


def run_in_forward_of(critic: Callable[..., Tensor], body: Callable[..., CriticLoss], *inputs: Tensor) -> CriticLoss:
    """Returns body(); if the critic is DistributedDataParallel, body runs as its forward pass.

    Its forward pass is where the wrapper prepares for the gradients to be averaged; they are when they arrive in the
    parameters, as ever.
    """
    if not isinstance(critic, DistributedDataParallel):
        return body()
    # Another module in the place of the critic, so that hooks of the critic see its own calls only.
    instead = _Instead(critic, body)
    critic._modules["module"] = instead
    try:
        total = critic(*(x.detach() for x in inputs))
    finally:
        instead.put_back()
    found = instead.found
    result = total.as_subclass(CriticLoss)
    result.__dict__.update(found.__dict__)
    return result


class _Instead(nn.Module):
    """A module that calls `body`, put in the critic's place in the wrapper."""

    def __init__(self, wrapper: nn.Module, body: Callable[..., CriticLoss]) -> None:
        super().__init__()
        self.place, self.critic = wrapper._modules, wrapper._modules["module"]
        self.body = body
        self.found: CriticLoss

    def put_back(self) -> None:
        self.place["module"] = self.critic

    def forward(self, *_: Any, **__: Any) -> Tensor:
        self.put_back()  # the body calls the critic itself
        self.found = self.body()
        return self.found
