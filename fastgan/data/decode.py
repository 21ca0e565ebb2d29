"""Decodes one image file into 8-bit pixels: any format of Pillow's, any depth, without transparency.

Pillow's own `convert("L")` clips what has more than 8 bits at 255, and `convert("RGB")` shows the colours that a file
keeps under transparent pixels.
"""

import io
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

BACKGROUND = 255
"""What transparent pixels are laid over: white, in every channel."""
_DECODED_BY_OTHERS = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"})
"""Formats that Pillow names, and leaves to another program or to nobody to decode."""
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262
"""Tags of TIFF."""


class Picture(NamedTuple):
    """A decoded image.

    Attributes:
        pixels: uint8 [channels, height, width].
        remarks: what is in the file and not in the pixels, each after "images with": `TRANSPARENT`, `SEVERAL`.
    """

    pixels: Tensor
    remarks: tuple[str, ...]


TRANSPARENT = "transparent pixels, laid over white"
SEVERAL = "several pictures in a file, of which one is read"


@cache
def formats() -> tuple[str, ...]:
    """The formats that are read, by Pillow's names."""
    Image.init()
    return tuple(sorted(Image.OPEN.keys() - _DECODED_BY_OTHERS))


@cache
def suffixes() -> frozenset[str]:
    """The endings of the files that are read, in lower case: those that the installed Pillow knows."""
    known, read = Image.registered_extensions(), set(formats())
    return frozenset(suffix for suffix, name in known.items() if name in read)


def decode(content: bytes, channels: int, height: int, width: int) -> Picture:
    """Turns an image upright, cuts it at its centre to the proportions that are asked for and resizes it (Lanczos).

    Grey of 16 bits is scaled from its whole range, 0 to 65535. Of a file of several pictures one is read, of a film the
    first.

    Args:
        content: of the file.
        channels: 1 for grey, 3 for RGB.
        height, width: of the result.

    Raises:
        ValueError: the pixels are numbers without a range, of floating point or 32 bits.
        OSError, SyntaxError, Image.DecompressionBombError: what Pillow raises of a file that it cannot read.
    """
    with Image.open(io.BytesIO(content), formats=formats()) as opened:
        if opened.mode == "RGB" and opened.tile and opened.tile[0][3] == "RGB;16B" and "transparency" in opened.info:
            # Pillow keeps the upper eight bits of a colour, and all sixteen of the one that is transparent.
            opened.info["transparency"] = tuple(value >> 8 for value in opened.info["transparency"])
        upright = ImageOps.exif_transpose(opened)
        levels, transparent = _opaque(_eight_bits(upright, opened))
        remarks = (TRANSPARENT,) * transparent + (SEVERAL,) * bool(getattr(opened, "is_animated", False))
    fitted = ImageOps.fit(levels.convert("L" if channels == 1 else "RGB"), (width, height), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(fitted)).view(height, width, channels).permute(2, 0, 1)
    return Picture(pixels, remarks)


def _eight_bits(image: Image.Image, opened: Image.Image) -> Image.Image:
    """The image with at most 8 bits in each channel, by what is known of the file that it was opened from."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;"):
        return image
    values = np.asarray(image)
    levels = np.rint(values * np.float32(255 / _white(image.mode, opened))).astype(np.uint8)
    tags = getattr(opened, "tag_v2", {})
    if tags.get(_PHOTOMETRIC) == 0:  # 0 is white, which Pillow sees to for 8 bits only
        levels = 255 - levels
    grey = Image.fromarray(levels)
    if "transparency" not in image.info:
        return grey
    opaque = np.where(values == image.info["transparency"], 0, 255).astype(np.uint8)
    return Image.merge("LA", (grey, Image.fromarray(opaque)))


def _white(mode: str, opened: Image.Image) -> int:
    """The largest number that a pixel of more than 8 bits can be.

    Raises:
        ValueError: there is none.
    """
    if opened.format == "TIFF" and mode.startswith("I;16"):
        (bits,) = opened.tag_v2[_BITS_PER_SAMPLE]  # type: ignore[attr-defined]
        return 2**bits - 1
    # Those of FITS have a sign. Pillow opens PGM as 32 bits, older ones PNG as well, and fills 16 of them.
    if (mode.startswith("I;16") and opened.format != "FITS") or (mode == "I" and opened.format in ("PNG", "PPM")):
        return 65535
    kind = "floating-point numbers" if mode == "F" else "integers of 32 bits or with a sign"
    raise ValueError(f"its pixels are {kind}, which have no range; expected 8 or 16 bits without a sign")


def _opaque(image: Image.Image) -> tuple[Image.Image, bool]:
    """The image over the background, and whether that shows anywhere."""
    if image.mode not in ("LA", "La", "PA", "RGBA", "RGBa") and "transparency" not in image.info:
        return image, False
    layer = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    (least, _) = layer.getchannel("A").getextrema()
    if least == 255:
        return layer.convert("RGB"), False
    paper = Image.new("RGBA", layer.size, (BACKGROUND,) * 4)
    return Image.alpha_composite(paper, layer).convert("RGB"), True
