"""Where a run computes."""

import torch

from fastgan.errors import UserError


def choose_device(name: str, argument: str = "--device") -> torch.device:
    """The device that a name stands for; `auto` is a GPU if there is one, else the CPU.

    Raises:
        UserError: it is not the name of a device, or this machine has none such.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UserError(f"{argument} is {name!r}, expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"{argument} is {name!r}, but PyTorch sees {torch.cuda.device_count()} CUDA devices; expected auto or cpu"
        )
    return device
