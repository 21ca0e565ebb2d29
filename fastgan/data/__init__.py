"""Training images: the built-in digits or a folder, and the order in which they are read."""

from fastgan.data.digits import digit_labels, digits
from fastgan.data.folder import folder
from fastgan.data.images import EpochOrder, Images
from fastgan.errors import UserError

DIGITS = "digits"
"""The built-in data set's name on the command line."""


def load(name: str, resolution: int, channels: int) -> Images:
    """The data set that `--data` names: `digits`, or else the path of a folder of images.

    A folder is resized to the resolution and channels; the digits come at their own 1×8×8, which must be asked for.

    Raises:
        UserError: the folder is missing, empty or holds an unreadable file; or the digits do not fit.
    """
    if name != DIGITS:
        return folder(name, resolution, channels)
    images = digits()
    if images.shape != (channels, resolution, resolution):
        expected = f"{channels}x{resolution}x{resolution}"
        raise UserError(f"--data is 'digits', images of 1x8x8; the preset expects {expected}")
    return images


__all__ = ["DIGITS", "EpochOrder", "Images", "digit_labels", "digits", "folder", "load"]
