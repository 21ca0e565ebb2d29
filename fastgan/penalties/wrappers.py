"""Takes a critic out of its wrappers: torch.compile's, DataParallel's and DistributedDataParallel's."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fastgan._torch_private import is_compiled_module, only_runs_compiled
from fastgan.nn import PackedCritic
from fastgan.penalties.result import CriticLoss


def unwrap(critic: Callable[..., Tensor]) -> tuple[DistributedDataParallel | None, Callable[..., Tensor]]:
    """Looks through the wrappers that hand their arguments on and return what the network returns, and no others.

    A wrapper with hooks, with a forward of its instance or of a subclass is run as the network: what it does is part of
    the critic.

    Returns:
        (the DistributedDataParallel on the way, the network).
    """
    distributed = None
    while isinstance(critic, nn.Module) and (inside := _inside(critic)) is not None and _only_hands_on(critic):
        if isinstance(critic, DistributedDataParallel):
            distributed = critic
        critic = inside
    return distributed, critic


def degree_of_packing(network: Callable[..., Tensor]) -> int:
    """The number of samples that a network puts into one pack, whatever wrappers are around its `PackedCritic`."""
    m = 1
    while isinstance(network, nn.Module):
        inside = network.critic if isinstance(network, PackedCritic) else _inside(network)
        if inside is None:
            break
        m *= network.m if isinstance(network, PackedCritic) else 1
        network = inside
    return m


def has_hooks(module: nn.Module) -> bool:
    """Whether a hook would be called, forward or backward, if the module were."""
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def _inside(module: nn.Module) -> nn.Module | None:
    """The module in a wrapper for one process or device; None for a module that is no such wrapper."""
    if isinstance(module, DistributedDataParallel) or (isinstance(module, nn.DataParallel) and not module.device_ids):
        return module.module
    return module._modules["_orig_mod"] if is_compiled_module(module) else None


def _only_hands_on(wrapper: nn.Module) -> bool:
    """Whether a wrapper is exactly of PyTorch's class, without hooks and without a forward of the instance."""
    if has_hooks(wrapper):
        return False
    if is_compiled_module(wrapper):  # whose forward is always the instance's
        return only_runs_compiled(wrapper)
    return type(wrapper) in (nn.DataParallel, DistributedDataParallel) and "forward" not in wrapper.__dict__


def run_in_forward_of(
    distributed: DistributedDataParallel | None, body: Callable[..., CriticLoss], *inputs: Tensor
) -> CriticLoss:
    """Returns body(); with DistributedDataParallel around the critic, body runs as its forward pass.

    Its forward pass is where the wrapper prepares for the gradients to be averaged; they are when they arrive in the
    parameters, as ever.
    """
    if distributed is None:
        return body()
    # Another module in the place of the critic, so that hooks of the critic see its own calls only.
    instead = _Instead(distributed, body)
    distributed._modules["module"] = instead
    try:
        total = distributed(*(x.detach() for x in inputs))
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
