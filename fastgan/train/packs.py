"""What a run's critic is wrapped in."""

from torch import nn

from fastgan.nn import PackedCritic
from fastgan.train.critic_norms import ReferencedCritic


def inside(critic: nn.Module) -> nn.Module:
    """What is called once for each batch: the critic of packs, and for one reference batch, within; or it itself."""
    return inside(critic.critic) if isinstance(critic, (PackedCritic, ReferencedCritic)) else critic
