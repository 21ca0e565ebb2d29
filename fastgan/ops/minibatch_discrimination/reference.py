"""minibatch_discrimination in plain PyTorch."""

import torch
from torch import Tensor


def minibatch_discrimination_reference(m: Tensor) -> Tensor:
    """The same in plain PyTorch, as it is usually written; O(B B K C) memory."""
    distance = (m.unsqueeze(0) - m.unsqueeze(1)).abs().sum(3)  # [B, B, K]
    itself = torch.eye(m.shape[0], dtype=torch.bool, device=m.device).unsqueeze(2)
    return torch.exp(-distance).masked_fill(itself, 0).sum(0)
