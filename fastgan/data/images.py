"""A set of images in memory."""

from dataclasses import dataclass

import torch
from torch import Tensor

Resolution = int | tuple[int, int]
"""Height and width, or one number for both."""


def image_shape(resolution: Resolution, channels: int) -> tuple[int, int, int]:
    """(channels, height, width) of the images that are asked for.

    Raises:
        TypeError, ValueError: `resolution` is not one or two integers, at least 1; `channels` is neither 1 nor 3.
    """
    if isinstance(channels, bool) or channels not in (1, 3):
        raise ValueError(f"channels is {channels!r}, expected 1 (grey) or 3 (RGB)")
    sides = (resolution, resolution) if isinstance(resolution, int) else resolution
    if (
        not isinstance(sides, tuple)
        or len(sides) != 2
        or any(not isinstance(side, int) or isinstance(side, bool) for side in sides)
    ):
        raise TypeError(f"resolution is {resolution!r}, expected an integer or (height, width)")
    if min(sides) < 1:
        raise ValueError(f"resolution is {resolution!r}, expected at least 1")
    return channels, sides[0], sides[1]


@dataclass(frozen=True)
class Images:
    """Training images, kept as they came so that a large folder costs one byte per value.

    Attributes:
        name: what they are called in messages: `digits`, `textures` or the folder's path.
        pixels: [N, C, H, W], float32 in [-1, 1] or uint8 in [0, 255]. Any number of dimensions [..., C, H, W] together
            number the images, and they may be a view: of overlapping patches of one picture, say, which cost no more
            memory than the picture.
        labels: the class of each image, int64 [N], 0 to len(classes) - 1; None if nobody has said.
        classes: their names, in the order of the labels; empty without labels.
        digest: of the files that they were read from; empty for those that are always the same.
        remarks: sentences about what was found beside them and left out, or is not what it was in the files.

    Raises:
        TypeError, ValueError: the labels are no such tensor, or there are names without labels.
    """

    name: str
    pixels: Tensor
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    digest: str = ""
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.labels is None:
            if self.classes:
                raise ValueError(f"classes are {self.classes}, expected none: labels is None")
            return
        if self.labels.dtype != torch.int64:
            raise TypeError(f"labels are {self.labels.dtype}, expected torch.int64")
        if self.labels.shape != (len(self),):
            raise ValueError(f"labels have shape {list(self.labels.shape)}, expected [{len(self)}], one for each image")
        wrong = self.labels[(self.labels < 0) | (self.labels >= len(self.classes))]
        if len(wrong):
            raise ValueError(
                f"labels hold {wrong[0]}, expected 0 to {len(self.classes) - 1}, as there are "
                f"{len(self.classes)} classes"
            )

    def __len__(self) -> int:
        return self.pixels.shape[:-3].numel()

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of one image."""
        return tuple(self.pixels.shape[-3:])

    @property
    def class_counts(self) -> Tensor:
        """The number of images of each class, int64 [len(classes)]."""
        labels = torch.empty(0, dtype=torch.int64) if self.labels is None else self.labels
        return torch.bincount(labels, minlength=len(self.classes))

    def summary(self) -> str:
        """The number of images and classes in a line, then a line for each remark."""
        channels, height, width = self.shape
        classes = f"{len(self.classes)} class{'es' * (len(self.classes) > 1)}" if self.classes else "no classes"
        head = f"{self.name}: {len(self)} images of {channels}x{height}x{width}, {classes}"
        return "\n".join([head, *(f"  {remark}" for remark in self.remarks)])

    def batch(self, indices: Tensor) -> Tensor:
        """The images at `indices` (int64 [B]), 0 to N - 1, as float32 [B, C, H, W] in [-1, 1].

        Raises:
            IndexError: there is no image of such a number.
        """
        # unravel_index wraps around.
        if len(indices) and (indices.min() < 0 or indices.max() >= len(self)):
            raise IndexError(f"indices are {indices.tolist()}, expected 0 to {len(self) - 1}")
        chosen = self.pixels[torch.unravel_index(indices, self.pixels.shape[:-3])]
        return chosen if chosen.is_floating_point() else chosen.float() / 127.5 - 1

    def read(self, indices: Tensor, seed: int) -> dict[str, Tensor]:
        """`image`, as `batch` has it, and `label`, int64 [B], where there are labels; nothing of it is drawn."""
        found = {"image": self.batch(indices)}
        return found if self.labels is None else {**found, "label": self.labels[indices]}
