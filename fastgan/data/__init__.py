"""Training images: the built-in sets or a folder."""

from collections.abc import Callable

from fastgan.data.digit_images import digit_labels, digits
from fastgan.data.image_folder import folder
from fastgan.data.images import Images, Resolution
from fastgan.data.mixtures import MIXTURES, MixtureSource
from fastgan.data.stacked_digit_images import STACKED_DIGITS, stacked_digits, stacked_labels
from fastgan.data.tensor_samples import TensorSource
from fastgan.data.texture_patches import dahlia, pagoda, textures

DIGITS = "digits"
"""The name of the data set that is trained on by default."""
BUILT_IN: dict[str, Callable[[Resolution, int], Images]] = {
    DIGITS: digits,
    STACKED_DIGITS: stacked_digits,
    "textures": textures,
    "pagoda": pagoda,
    "dahlia": dahlia,
}
"""What `--data` may name beside the path of a folder, and what makes it at a resolution and number of channels."""


def load(name: str, resolution: Resolution, channels: int) -> Images:
    """The data set that `--data` names: `digits`, `stacked-digits`, `textures`, or else the path of a folder of images.

    Args:
        name: a key of `BUILT_IN` or a path.
        resolution: height and width of the images, or one number for both.
        channels: 1 for grey, 3 for RGB.

    Raises:
        UserError: the folder is missing, empty or holds an unreadable file; or the built-in images cannot be had at
            that resolution.
    """
    built_in = BUILT_IN.get(name)
    return folder(name, resolution, channels) if built_in is None else built_in(resolution, channels)


__all__ = [
    "BUILT_IN",
    "DIGITS",
    "MIXTURES",
    "STACKED_DIGITS",
    "Images",
    "MixtureSource",
    "Resolution",
    "TensorSource",
    "dahlia",
    "digit_labels",
    "digits",
    "folder",
    "load",
    "pagoda",
    "stacked_digits",
    "stacked_labels",
    "textures",
]
