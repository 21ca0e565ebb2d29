"""The state of torch.autocast."""

import torch


def autocasts(device: str) -> bool:
    """Whether torch.autocast is on for this type of device."""
    try:
        return torch.is_autocast_enabled(device)
    except RuntimeError:  # no autocast there, as on "meta"; Dynamo before 2.13 cannot trace is_autocast_available
        return False
