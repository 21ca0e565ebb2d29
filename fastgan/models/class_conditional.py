"""What class-conditional generators are made of: batch norm with a gain and a bias of each class.

Dumoulin et al. 2017, arXiv:1610.07629; de Vries et al. 2017, arXiv:1707.00683; in generators Miyato and Koyama 2018,
arXiv:1802.05637, and BigGAN (Brock et al. 2019, arXiv:1809.11096).
"""

from torch import Tensor, nn

from fastgan.nn import ConditionalBatchNorm2d


class ConditionalSequential(nn.Sequential):
    """Layers one after the other, of which those that have `num_classes` are given the labels as well.

    Shape: x and labels, int64 [B] -> what the last layer makes of them
    """

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:  # type: ignore[override]
        for layer in self:
            x = layer(x) if getattr(layer, "num_classes", None) is None else layer(x, labels)
        return x


def batch_norm(channels: int, num_classes: int | None) -> nn.Module:
    """Batch norm, class-conditional where there are classes."""
    return nn.BatchNorm2d(channels) if num_classes is None else ConditionalBatchNorm2d(channels, num_classes)


def sequence(num_classes: int | None, *layers: nn.Module) -> nn.Sequential:
    """The layers one after the other, to be called with labels where there are classes."""
    return nn.Sequential(*layers) if num_classes is None else ConditionalSequential(*layers)


def label_arguments(owner: str, num_classes: int | None, labels: Tensor | None) -> tuple[Tensor, ...]:
    """The labels as further arguments of a call; none where there are no classes.

    Raises:
        ValueError: there are classes and no labels, or labels and no classes.
    """
    if num_classes is None and labels is not None:
        raise ValueError(f"{owner}: labels are given, expected none: it was built without num_classes")
    if num_classes is not None and labels is None:
        raise ValueError(f"{owner}: labels is None, expected int64 [batch], 0 to {num_classes - 1}")
    return () if labels is None else (labels,)
