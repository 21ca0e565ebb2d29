"""Weight clipping: the first way to bound a Wasserstein critic's Lipschitz constant."""

import torch
from torch import Tensor, nn

from fastgan._torch_private import foreach_clamp_max_, foreach_clamp_min_
from fastgan.ops._common.checks import check_number


@torch.no_grad()
def clip_weights_(critic: nn.Module, limit: float = 0.01) -> None:
    """w <- clip(w, -limit, limit), in place, for every parameter w of the critic; called after each of its updates.

    Buffers stay as they are; NaN stays NaN, so that a critic that has diverged shows. On a GPU all parameters take two
    launches together. Arjovsky et al. 2017, arXiv:1701.07875, algorithm 1, whose c = 0.01 is the default.

    Args:
        critic: its parameters of any floating dtype, those without a gradient included.
        limit: c in the paper, above 0.

    Raises:
        ValueError: limit is not a finite number above 0.
    """
    check_number("clip_weights_", "limit", limit, above=True)
    parameters: list[Tensor] = list(critic.parameters())
    if parameters:
        foreach_clamp_min_(parameters, -limit)
        foreach_clamp_max_(parameters, limit)
