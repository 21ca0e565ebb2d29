"""Packed critics (PacGAN): unwraps the critic of packs and packs the samples for it."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from fastgan.nn import PackedCritic, pack
from fastgan.penalties.wrappers import unwrap


def of_packs(
    owner: str,
    critic: Callable[..., Tensor],
    rest: Sequence[Any],
    *samples: Tensor,  # [B, C, ...] each
) -> tuple[Callable[..., Tensor], Callable[..., Tensor], tuple[Tensor, ...]]:  # samples [B / m, m C, ...]
    """Unwraps the critic; if it is a `PackedCritic`, returns the critic of packs and packs the samples.

    What packing judges is a sample of the m-fold product distribution, so a point of a penalty is a whole pack
    (Lin et al. 2018, arXiv:1712.04086, section 3).

    Args:
        owner: names the caller in errors.
        critic: in wrappers or not.
        rest: further arguments of its calls; none for packs.
        samples: batches for it.

    Returns:
        (the wrapper that a step runs inside, the network, the samples).

    Raises:
        ValueError: a packed critic has further arguments, or a batch is no multiple of m.
    """
    wrapper, network = critic, unwrap(critic)
    while isinstance(network, PackedCritic):
        if rest:
            raise ValueError(
                f"{owner}: labels are given to a PackedCritic, expected None: every sample has a class, and a pack has "
                "none"
            )
        samples = tuple(pack(x, network.m) for x in samples)
        if not isinstance(wrapper, DistributedDataParallel):
            wrapper = network.critic
        network = unwrap(network.critic)
    return wrapper, network, samples
