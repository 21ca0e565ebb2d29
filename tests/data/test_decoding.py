"""Known pixels through every format and mode that Pillow can write, and some that it cannot, back to 8 bits."""

import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fastgan.data.decode import SEVERAL, TRANSPARENT, decode, formats, suffixes

SIDE = 16
LOSSY = {"JPEG", "MPO", "AVIF"}
OPTIONS = {"WEBP": {"lossless": True, "exact": True}, **{name: {"quality": 100} for name in LOSSY}}
# Levels by which a pixel may be off; elsewhere half of one, the rounding of a composite. JPEG rounds brightness and two
# differences of a colour, which count 1.772-fold at most: 0.5 (1 + 1.772) and the rounding after it. AVIF quantises
# them at its best quality too (3 levels in 400 draws). Icons are enlarged as they are written, for which colours are
# multiplied by alpha, rounded, and divided again.
TOLERANCE = {"JPEG": 2, "MPO": 2, "AVIF": 5, "ICNS": 2}


def over_white(colours, alpha):
    """The textbook's composite, in floating point."""
    alpha = alpha[..., None] / 255
    return colours * alpha + 255 * (1 - alpha)


def grey(values):
    return np.repeat(values[..., None].astype(float), 3, axis=2)


def bits(rng, levels):
    values = levels[..., 0] // 128
    return Image.fromarray((255 * values).astype(np.uint8)).convert("1"), grey(255 * values)


def of_sixteen_bits(rng, levels):
    values = levels[..., 0].astype(np.uint16) * 257
    values[levels[..., 1] > 128] ^= 0x55  # not only those that 8 bits have
    return Image.fromarray(values), grey(values / 257)


def grey_and_alpha(rng, levels):
    image = Image.frombytes("LA", (SIDE, SIDE), levels[..., :2].tobytes())
    return image, over_white(grey(levels[..., 0]), levels[..., 1])


def palette(rng, levels):
    colours = rng.integers(0, 256, (256, 3), dtype=np.uint8)
    image = Image.fromarray(levels[..., 0]).convert("L")
    image = Image.frombytes("P", (SIDE, SIDE), image.tobytes())
    image.putpalette(colours.tobytes())
    return image, colours[levels[..., 0]].astype(float)


def see_through_palette(rng, levels):
    image, colours = palette(rng, levels)
    alpha = rng.integers(0, 256, 256, dtype=np.uint8)
    image.info["transparency"] = alpha.tobytes()
    return image, over_white(colours, alpha[levels[..., 0]])


def cmyk(rng, levels):
    c, m, y, k = np.moveaxis(levels.astype(float), 2, 0)
    rgb = np.stack([(255 - ink) * (255 - k) / 255 for ink in (c, m, y)], axis=2)
    return Image.frombytes("CMYK", (SIDE, SIDE), levels.tobytes()), rgb


# What makes an image in that mode of random levels, and the colours that it has over white.
MODES = {
    "1": bits,
    "L": lambda rng, x: (Image.fromarray(x[..., 0]), grey(x[..., 0])),
    "LA": grey_and_alpha,
    "P": palette,
    "P with transparency": see_through_palette,
    "RGB": lambda rng, x: (Image.fromarray(x[..., :3]), x[..., :3].astype(float)),
    "RGBA": lambda rng, x: (Image.fromarray(x), over_white(x[..., :3].astype(float), x[..., 3])),
    "CMYK": cmyk,
    "I;16": of_sixteen_bits,
}
# What Pillow's writers drop or change: alpha beyond one bit, more than 256 colours, bits above eight.
DROPPED = {
    *itertools.product(["GIF"], ["LA", "RGB", "RGBA", "CMYK", "I;16", "P with transparency"]),
    *itertools.product(["BMP", "DIB", "PPM"], ["RGBA"]),
    *itertools.product(["AVIF", "WEBP", "ICNS"], ["I;16"]),
}
KEEPS_TRANSPARENT_PALETTES = {"AVIF", "PNG", "WEBP"}
WRITTEN = sorted((set(formats()) & set(Image.SAVE)) - {"SPIDER"})  # which is of floating point


def encoded(image, name):
    """The bytes of a file of that format, or None where Pillow does not write that mode."""
    file = io.BytesIO()
    try:
        image.save(file, name, **OPTIONS.get(name, {}))
    except (OSError, KeyError, ValueError):
        return None
    return file.getvalue()


@pytest.mark.filterwarnings("ignore:IM image format:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Palette images with Transparency:UserWarning")
@pytest.mark.parametrize("name", WRITTEN)
def test_known_pixels_come_back(name, seed):
    rng = np.random.default_rng(seed)
    tolerance, read = TOLERANCE.get(name, 0.5) + 1e-4, []
    for mode, make in MODES.items():
        levels = rng.integers(0, 256, (SIDE, SIDE, 4), dtype=np.uint8)
        if name in LOSSY | {"ICNS"}:  # ICNS has several sizes, of which the largest is read
            levels[:] = levels[:1, :1]
        image, expected = make(rng, levels)
        content = encoded(image, name)
        dropped = (name, mode) in DROPPED or (mode == "P with transparency" and name not in KEEPS_TRANSPARENT_PALETTES)
        if content is None or dropped:
            continue
        read.append(mode)
        in_colour, in_grey = (decode(content, channels, SIDE, SIDE) for channels in (3, 1))
        np.testing.assert_allclose(in_colour.pixels.permute(1, 2, 0), expected, rtol=0, atol=tolerance, err_msg=mode)
        luma = expected @ [0.299, 0.587, 0.114]  # ITU-R 601
        np.testing.assert_allclose(in_grey.pixels[0], luma, rtol=0, atol=tolerance + 0.6, err_msg=mode)
        has_alpha = mode in ("LA", "RGBA", "P with transparency")
        assert (TRANSPARENT in in_colour.remarks) == (TRANSPARENT in in_grey.remarks) == has_alpha
    assert read, "Pillow wrote none of the modes"


def tiff(order, values, bits, sample_format=1, zero_is_white=False):
    """A grey TIFF of one strip, as the specification of 1992 has it."""
    data = values.tobytes() if isinstance(values, np.ndarray) else values
    tags = [
        (256, 3, SIDE), (257, 3, SIDE), (258, 3, bits), (259, 3, 1), (262, 3, 0 if zero_is_white else 1),
        (273, 4, 8), (277, 3, 1), (278, 3, SIDE), (279, 4, len(data)), (339, 3, sample_format),
    ]  # fmt: skip
    head = struct.pack(order + "HL", 42, 8 + len(data))
    entries = b""
    for tag, kind, value in tags:
        number = struct.pack(order + ("L" if kind == 4 else "H2x"), value)
        entries += struct.pack(order + "HHL", tag, kind, 1) + number
    mark = b"II" if order == "<" else b"MM"
    return mark + head + data + struct.pack(order + "H", len(tags)) + entries + bytes(4)


def png(values, colour_type, transparent=b""):
    """A PNG of 16 bits, big-endian [height, width, samples]."""

    def chunk(kind, data):
        return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">2L5B", SIDE, SIDE, 16, colour_type, 0, 0, 0)
    middle = chunk(b"tRNS", transparent) if transparent else b""
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + middle + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


@pytest.fixture
def sixteen(seed):
    return np.random.default_rng(seed).integers(0, 65536, (SIDE, SIDE, 4), dtype=np.uint16)


def assert_decoded(content, expected, tolerance=0.5):
    found = decode(content, 3, SIDE, SIDE).pixels.permute(1, 2, 0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance + 1e-4)


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_of_sixteen_bits_in_both_orders(order, sixteen):
    values = sixteen[..., 0].astype(order + "u2")
    assert_decoded(tiff(order, values, 16), grey(values / 257))


def test_tiff_where_zero_is_white(sixteen):
    values = sixteen[..., 0].astype("<u2")
    assert_decoded(tiff("<", values, 16, zero_is_white=True), grey(255 - values / 257))


def test_tiff_of_twelve_bits(sixteen):
    values = (sixteen[..., 0] >> 4).astype(int)
    first, second = values[:, ::2], values[:, 1::2]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=2).astype(np.uint8)
    assert_decoded(tiff("<", packed, 12), grey(values * 255 / 4095))


@pytest.mark.parametrize("maxval", [255, 1000, 4095, 65535])
def test_pgm_of_any_range(maxval, sixteen):
    values = sixteen[..., 0].astype(int) % (maxval + 1)
    content = f"P5 {SIDE} {SIDE} {maxval}\n".encode() + values.astype("u1" if maxval < 256 else ">u2").tobytes()
    assert_decoded(content, grey(values * 255 / maxval), 0.51)


def test_png_of_sixteen_bits_with_alpha(sixteen):
    """Pillow keeps the upper eight bits of each: up to a level off in the colour and one in alpha, and rounded."""
    colours, alpha = sixteen[..., :3] / 257, sixteen[..., 3] / 257
    assert_decoded(png(sixteen, 6), over_white(colours, alpha), 2.5)
    assert_decoded(png(sixteen[..., 2:], 4), over_white(grey(colours[..., 2]), alpha), 2.5)


def test_png_of_sixteen_bits_with_one_transparent_grey(sixteen):
    values = sixteen[..., 0]
    values[3, 5] = values[0, 0]
    expected = grey(values / 257)
    expected[values == values[0, 0]] = 255
    assert_decoded(png(values, 0, struct.pack(">H", values[0, 0])), expected)


def test_png_of_sixteen_bits_with_one_transparent_colour(sixteen):
    values = sixteen[..., :3]
    values[3, 5] = values[0, 0] = (0x12FF, 0xFF34, 0x5601)
    expected = values / 257
    expected[0, 0] = expected[3, 5] = 255
    assert_decoded(png(values, 2, struct.pack(">3H", *values[0, 0])), expected, 1)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (tiff("<", np.zeros((SIDE, SIDE), "<f4"), 32, sample_format=3), "floating-point numbers"),
        (tiff(">", np.zeros((SIDE, SIDE), ">f4"), 32, sample_format=3), "floating-point numbers"),
        (tiff("<", np.zeros((SIDE, SIDE), "<i4"), 32, sample_format=2), "integers of 32 bits or with a sign"),
        (tiff("<", np.zeros((SIDE, SIDE), "<u4"), 32), "integers of 32 bits or with a sign"),
        (tiff("<", np.zeros((SIDE, SIDE), "<i2"), 16, sample_format=2), "integers of 32 bits or with a sign"),
        (f"Pf {SIDE} {SIDE} -1.0\n".encode() + np.zeros((SIDE, SIDE), "<f4").tobytes(), "floating-point numbers"),
    ],
)
def test_numbers_without_a_range_are_refused(content, kind):
    with pytest.raises(ValueError, match=rf"its pixels are {kind}, which have no range; expected 8 or 16 bits without"):
        decode(content, 1, SIDE, SIDE)


@pytest.mark.parametrize("name", ["GIF", "PNG", "TIFF", "WEBP"])
def test_the_first_of_several_pictures(name):
    pictures = [Image.new("L", (SIDE, SIDE), level) for level in (40, 200)]
    file = io.BytesIO()
    pictures[0].save(file, name, save_all=True, append_images=pictures[1:], **OPTIONS.get(name, {}))
    found = decode(file.getvalue(), 1, SIDE, SIDE)
    assert found.pixels.unique().tolist() == [40]
    assert found.remarks == (SEVERAL,)


def test_endings_are_those_that_pillow_reads():
    assert {
        ".jpg",
        ".jfif",
        ".jpe",
        ".png",
        ".apng",
        ".webp",
        ".bmp",
        ".gif",
        ".tif",
        ".tga",
        ".jp2",
        ".pgm",
    } <= suffixes()
    assert not {".pdf", ".eps", ".mpg", ".h5", ".txt", ""} & suffixes()
    assert (".avif" in suffixes()) == ("AVIF" in Image.SAVE)
