"""The cross entropy of a critic's class logits, with its labels checked."""

import torch
from torch import Tensor
from torch.nn import functional as F

from fastgan.losses.features import wide
from fastgan.ops._common.checks import check_shape


def cross_entropy(owner: str, name: str, class_logits: Tensor, labels: Tensor) -> Tensor:
    """-E log softmax(class_logits)[label]: a scalar.

    Raises:
        TypeError: the logits are not floating-point, or the labels no int64.
        ValueError: the shapes are not [B, n] and [B], or a label (looked at on the CPU) is no class.
    """
    check_shape(owner, f"{name}class_logits", class_logits, ["B", "n"])
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64:
        what = str(labels.dtype) if isinstance(labels, Tensor) else type(labels).__name__
        raise TypeError(f"{owner}: {name}labels is {what}, expected a tensor of int64")
    size, classes = class_logits.shape
    if labels.shape != (size,):
        raise ValueError(f"{owner}: {name}labels has shape {list(labels.shape)}, expected [{size}]")
    # Reading them from a GPU would wait for it; there PyTorch's own kernel checks.
    if labels.device.type == "cpu" and size and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(
            f"{owner}: {name}labels are from {labels.min()} to {labels.max()}, expected 0 to {classes - 1}"
        )
    return F.cross_entropy(wide(class_logits), labels)
