"""Class agreement: the share of samples that a classifier finds to be of the class they were generated for."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fastgan.metrics.checks import check_class_logits, check_classes


@dataclass(frozen=True)
class ClassAgreement:
    """How often a classifier finds the class that an image should be of.

    Attributes:
        share: of all images.
        per_class: share of the images of each class, in the order of the labels; not a number for a class of which
            there are none.
    """

    share: float
    per_class: tuple[float, ...]


def class_agreement(class_logits: Tensor, labels: Tensor) -> ClassAgreement:
    """Counts the images of which the most likely class is the label.

    Args:
        class_logits: the classifier's on each image, floating point [N, classes], N at least 1.
        labels: the classes that they should be of, int64 [N].

    Raises:
        TypeError, ValueError: the logits or labels have another type or shape, are none or not finite, or a label is
            no class.
    """
    check_class_logits("class_agreement", "class_logits", class_logits)
    check_classes("class_agreement", "labels", labels, len(class_logits), class_logits.shape[1])
    classes = class_logits.shape[1]
    right = class_logits.argmax(dim=1) == labels
    of_class = torch.bincount(labels, minlength=classes)
    found = torch.bincount(labels[right], minlength=classes)
    return ClassAgreement(right.double().mean().item(), tuple((found.double() / of_class).tolist()))
