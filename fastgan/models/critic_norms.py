"""What normalises a critic in the place of its batch norm."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from fastgan.nn import BatchRenorm2d, SplitBatchNorm2d, VirtualBatchNorm, pack, reference_batch

CRITIC_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda channels: nn.Identity(),
    "batch": nn.BatchNorm2d,
    "batch-renorm": BatchRenorm2d,
    "virtual-batch": VirtualBatchNorm,
    "split-batch": SplitBatchNorm2d,
}
"""What makes a layer for so many channels, by its name in recipes."""


def replace_batch_norm(network: nn.Module, kind: str) -> nn.Module:
    """Puts fresh layers of a kind in the place of every batch norm of images, and returns the network."""
    for name, layer in list(network.named_modules()):
        if isinstance(layer, nn.BatchNorm2d):
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, CRITIC_NORMS[kind](layer.num_features))
    return network


class ReferencedCritic(nn.Module):
    """A critic with virtual batch norm that passes its reference batch through itself at every call.

    So its layers know the statistics of that batch under the weights as they are now, and gradients flow through them
    (Salimans et al. 2016, arXiv:1606.03498, section 3.4), whoever calls it: penalties, optimisers that look ahead, and
    unrolling, whose copies have other weights. The batch is a part of its state, and so of a checkpoint.

    Args:
        critic: with at least one `VirtualBatchNorm`.
        size: samples in the reference batch.
        shape: of a sample.
        pack: samples that the critic judges together.
        labelled: whether the critic is called with labels, int64, besides.
    """

    images: Tensor
    labels: Tensor | None

    def __init__(
        self, critic: nn.Module, size: int, shape: tuple[int, ...], pack: int = 1, labelled: bool = False
    ) -> None:
        super().__init__()
        self.critic, self.size, self.pack = critic, size, pack
        self.register_buffer("images", torch.zeros(size // pack, pack * shape[0], *shape[1:]))
        self.register_buffer("labels", torch.zeros(size, dtype=torch.int64) if labelled else None)

    def refer_to(self, images: Tensor, labels: Tensor | None) -> None:
        """Sets the reference batch: [size, ...] and, where the critic is told them, int64 [size]."""
        self.images.copy_(pack(images, self.pack))
        if self.labels is not None and labels is not None:
            self.labels.copy_(labels)

    def forward(self, x: Tensor, *labels: Tensor) -> Tensor:
        with self.referenced():
            return self.critic(x, *labels)

    def referenced(self) -> AbstractContextManager[None]:
        """Inside, the layers of the critic know the statistics of its reference batch."""
        return reference_batch(self.critic, self.images, *(() if self.labels is None else (self.labels,)))
