"""Packing in a run: the critic of whole packs within."""

from torch import nn

from fastgan.nn import PackedCritic


def inside(critic: nn.Module) -> nn.Module:
    """The critic of packs within a packed one; another critic itself."""
    return critic.critic if isinstance(critic, PackedCritic) else critic
