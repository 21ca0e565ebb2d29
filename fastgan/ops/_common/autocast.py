"""The state of torch.autocast."""

import torch


def autocasts(device: str) -> bool:
    """Whether torch.autocast is on for this type of device."""
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
