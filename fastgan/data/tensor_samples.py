"""Samples that a program has made, as a source."""

import hashlib

import torch
from torch import Tensor

from fastgan.errors import UserError


class TensorSource:
    """Samples in memory, without classes.

    Args:
        name: in messages.
        samples: [N, ...]: floating point, of the networks' dtype; or uint8, of which 0 to 255 are read as -1 to 1.

    Raises:
        UserError: there are no samples, or they are of another dtype.
    """

    classes: tuple[str, ...] = ()
    class_counts = torch.zeros(0, dtype=torch.int64)

    def __init__(self, name: str, samples: Tensor) -> None:
        if samples.ndim < 1 or not samples.numel():
            raise UserError(f"data.{name} is a tensor of shape {list(samples.shape)}, expected samples [N, ...]")
        if not (samples.is_floating_point() or samples.dtype == torch.uint8):
            raise UserError(f"data.{name} is a tensor of {samples.dtype}, expected floating point or torch.uint8")
        self.name, self._samples = f"data.{name}", samples.detach().cpu()
        self.digest = hashlib.sha256(self._samples.contiguous().reshape(-1).view(torch.uint8).numpy().data).hexdigest()

    def __len__(self) -> int:
        return len(self._samples)

    def read(self, indices: Tensor, seed: int) -> dict[str, Tensor]:
        """`image`: the samples of these numbers."""
        chosen = self._samples[indices]
        return {"image": chosen.float() / 127.5 - 1 if chosen.dtype == torch.uint8 else chosen}

    def summary(self) -> str:
        """How many there are."""
        return f"{self.name}: {len(self)} samples of shape {list(self._samples.shape[1:])}"
