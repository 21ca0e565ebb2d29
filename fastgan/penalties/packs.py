"""Packed critics (PacGAN): unwraps the critic of packs and packs the samples for it."""

from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fastgan.nn import PackedCritic, pack, unpack
from fastgan.penalties.wrappers import degree_of_packing, has_hooks, unwrap


def of_packs(
    owner: str,
    critic: Callable[..., Tensor],
    rest: Sequence[Any],
    *samples: Tensor,  # [B, C, ...] each
) -> tuple[DistributedDataParallel | None, Callable[..., Tensor], tuple[Tensor, ...]]:  # samples [B / m, m C, ...]
    """Unwraps the critic; if it is a `PackedCritic`, returns the critic of packs and packs the samples.

    What packing judges is a sample of the m-fold product distribution, so a point of a penalty is a whole pack
    (Lin et al. 2018, arXiv:1712.04086, section 3).

    Args:
        owner: names the caller in errors.
        critic: in wrappers or not.
        rest: further arguments of its calls; none for packs.
        samples: batches for it.

    Returns:
        (the DistributedDataParallel that a step runs inside, or None; the network; the samples).

    Raises:
        ValueError: a packed critic has further arguments, or a batch is no multiple of m.
    """
    distributed, network = unwrap(critic)
    while isinstance(network, PackedCritic) and _only_packs(network):
        _check_no_labels(owner, rest)
        samples = tuple(pack(x, network.m) for x in samples)
        inside, network = unwrap(network.critic)
        distributed = distributed or inside
    m = degree_of_packing(network)
    if m > 1:
        _check_no_labels(owner, rest)
        samples = tuple(pack(x, m) for x in samples)
        network = MethodType(_on_packs, network)
    return distributed, network, samples


def _only_packs(network: PackedCritic) -> bool:
    """Whether calling it is no more than packing the samples and calling the critic inside."""
    return type(network) is PackedCritic and not has_hooks(network) and "forward" not in network.__dict__


def _on_packs(network: nn.Module, packs: Tensor) -> Tensor:
    """A network that packs its samples, called with packs: hooks and forwards of its wrappers run as they are."""
    return network(unpack(packs, degree_of_packing(network)))


def _check_no_labels(owner: str, rest: Sequence[Any]) -> None:
    if rest:
        raise ValueError(
            f"{owner}: labels are given to a PackedCritic, expected None: every sample has a class, and a pack has none"
        )
