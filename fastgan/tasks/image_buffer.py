"""A buffer of generated images: the critic sees old samples as well (Shrivastava et al. 2017, arXiv:1612.07828)."""

import torch
from torch import Tensor, nn


class ImageBuffer(nn.Module):
    """The last samples that a generator made, of which the critic is shown some in the place of new ones.

    Until it is full every new sample is kept and shown. Then each is shown itself, or, as often, a kept one is shown in
    its place, which it replaces. What is shown depends on the choices alone, and the buffer moves by `keep` alone, so
    that a step can be evaluated more than once.

    Args:
        size: how many samples are kept, at least as many as a batch has.
        shape: of a sample.
    """

    samples: Tensor
    filled: Tensor

    def __init__(self, size: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("samples", torch.zeros(size, *shape))
        self.register_buffer("filled", torch.zeros([], dtype=torch.int64))

    def draw(self, batch_size: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """For each sample a place, int64 [B], no two the same, and whether what is there is shown, bool [B]."""
        places = torch.randperm(self.size, generator=random)[:batch_size]
        return places, torch.rand(batch_size, generator=random) < 0.5

    def shown(self, new: Tensor, places: Tensor, swapped: Tensor) -> Tensor:
        """What the critic sees: [B, ...].

        Args:
            new: samples, [B, ...].
            places, swapped: from `draw`.
        """
        old = swapped & (self.filled >= self.size)
        return torch.where(old.view(-1, *[1] * (new.ndim - 1)), self.samples[places].to(new.dtype), new)

    @torch.no_grad()
    def keep(self, new: Tensor, places: Tensor, swapped: Tensor) -> None:
        """Puts samples into the buffer, after the step whose critics were shown `shown` of the same arguments."""
        full = self.filled >= self.size
        next_ones = (self.filled + torch.arange(len(new), device=new.device)) % self.size
        at = torch.where(full, places, next_ones)
        kept = (swapped | ~full).view(-1, *[1] * (new.ndim - 1))
        self.samples.index_copy_(0, at, torch.where(kept, new.to(self.samples.dtype), self.samples[at]))
        self.filled.add_(len(new)).clamp_(max=self.size)
