"""Parts of class-conditional generators: an embedding of the class, from which batch norm's gains and biases come.

One embedding for all layers, as in BigGAN (Brock et al. 2019, arXiv:1809.11096, section 3), in place of a table for
each (Dumoulin et al. 2017, arXiv:1610.07629; Miyato and Koyama 2018, arXiv:1802.05637): a step of Adam moves an entry
of a table by the learning rate, but a product with an embedding by a multiple of it.
"""

from torch import Tensor, nn

from fastgan.nn import ConditionalBatchNorm2d
from fastgan.ops._common.checks import check_count, check_labels

EMBEDDING_DIM = 128
"""Size of a class embedding, as in BigGAN."""


class ConditionalSequential(nn.Sequential):
    """An nn.Sequential that passes the class vectors to layers with an `embedding_dim`.

    Shape: x and vectors [B, embedding_dim] -> the output of the last layer
    """

    def forward(self, x: Tensor, c: Tensor) -> Tensor:  # type: ignore[override]
        for layer in self:
            x = layer(x) if getattr(layer, "embedding_dim", None) is None else layer(x, c)
        return x


def class_embedding(owner: str, num_classes: int | None) -> nn.Embedding | None:
    """An embedding of the classes, N(0, 1) at first; None without classes."""
    if num_classes is None:
        return None
    check_count(owner, "num_classes", num_classes)
    return nn.Embedding(num_classes, EMBEDDING_DIM)


def batch_norm(channels: int, embedding_dim: int | None) -> nn.Module:
    """Batch norm, conditional if `embedding_dim` is given."""
    if embedding_dim is None:
        return nn.BatchNorm2d(channels)
    return ConditionalBatchNorm2d(channels, embedding_dim=embedding_dim)


def sequence(embedding_dim: int | None, *layers: nn.Module) -> nn.Sequential:
    """The layers in sequence; called with class vectors as well if `embedding_dim` is given."""
    return nn.Sequential(*layers) if embedding_dim is None else ConditionalSequential(*layers)


def embedded(owner: str, embed: nn.Embedding | None, labels: Tensor | None, size: int) -> tuple[Tensor, ...]:
    """The class vectors of labels as further arguments of a call; an empty tuple without classes.

    Raises:
        TypeError: the labels are no tensor of integers.
        ValueError: there are classes and no labels, or labels and no classes, or they are not `size`.
    """
    if embed is None:
        if labels is not None:
            raise ValueError(f"{owner}: labels are given, expected none: it was built without num_classes")
        return ()
    if labels is None:
        raise ValueError(f"{owner}: labels is None, expected int64 [{size}], 0 to {embed.num_embeddings - 1}")
    check_labels(owner, "labels", labels, size)
    return (embed(labels),)
