"""Packing in a run: what is asked of the critic of whole packs instead of single samples."""

from torch import Tensor, nn

from fastgan.nn import PackedCritic, pack


def inside(critic: nn.Module) -> nn.Module:
    """The critic of packs within a packed one; another critic itself."""
    return critic.critic if isinstance(critic, PackedCritic) else critic


def of_packs(
    critic: nn.Module,
    images: Tensor,  # [B, C, H, W]
    samples: Tensor,  # [B, C, H, W]
) -> tuple[nn.Module, Tensor, Tensor]:  # images and samples [B / m, m C, H, W]
    """The critic of packs and the packs, where the critic is packed; otherwise all as they are.

    For a penalty of the gradient: what packing judges is a sample of the m-fold product distribution, so a point of the
    penalty is a whole pack (Lin et al. 2018, arXiv:1712.04086, section 3).
    """
    if isinstance(critic, PackedCritic):
        return critic.critic, pack(images, critic.m), pack(samples, critic.m)
    return critic, images, samples
