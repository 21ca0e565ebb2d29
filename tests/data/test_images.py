"""The digits, folders of images and the order in which they are read."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from fastgan.data import Images, digit_labels, digits, folder, load
from fastgan.errors import UserError


def test_digits_are_scikit_learns():
    images, bunch = digits(), load_digits()
    assert images.pixels.shape == (1797, 1, 8, 8)
    assert images.pixels.dtype == torch.float32
    assert (images.pixels.min(), images.pixels.max()) == (-1, 1)
    np.testing.assert_array_equal((images.pixels[:, 0].numpy() + 1) * 8, bunch.images)
    np.testing.assert_array_equal(digit_labels().numpy(), bunch.target)


def lanczos_matrix(length, source=8):
    """[length, source]: sinc(x) sinc(x/3) around each new pixel's centre, normalised where the border cuts it."""
    x = (np.arange(length)[:, None] + 0.5) * source / length - (np.arange(source) + 0.5)
    weights = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize("resolution", [9, 16, 32, 64])
def test_digits_are_enlarged_with_lanczos(resolution):
    images = digits(resolution, channels=1)
    assert images.pixels.shape == (1797, 1, resolution, resolution)
    assert images.pixels.dtype == torch.uint8
    matrix = lanczos_matrix(resolution)
    levels = np.rint(load_digits().images * 255 / 16)
    # Rows first, rounded, then columns: half a level of the first, amplified by the second, and its own half.
    rows = np.clip(levels @ matrix.T, 0, 255)
    expected = np.clip(matrix @ rows, 0, 255)
    error = np.abs(images.pixels[:, 0].numpy() - expected).max()
    assert error <= 0.5 * np.abs(matrix).sum(1).max() + 0.5 + 1e-2
    batch = images.batch(torch.arange(1797))
    assert (batch.min(), batch.max()) == (-1, 1)


@pytest.mark.parametrize("resolution", [8, (8, 8), 32])
def test_digits_in_colour_are_grey_and_take_no_more_memory(resolution):
    images, grey = load("digits", resolution, channels=3), load("digits", resolution, channels=1)
    assert images.shape == (3, *grey.shape[1:])
    assert images.pixels.untyped_storage().nbytes() == grey.pixels.untyped_storage().nbytes()
    indices = torch.tensor([1796, 0, 5])
    for channel in images.batch(indices).unbind(1):
        assert torch.equal(channel, grey.batch(indices)[:, 0])


@pytest.mark.parametrize(("resolution", "named"), [(7, "7x7"), ((8, 16), "8x16"), ((16, 8), "16x8")])
def test_digits_at_another_size_are_refused(resolution, named):
    message = f"--data is 'digits', images of 8x8 or enlarged to a square; the run expects {named}"
    with pytest.raises(UserError, match=message):
        load("digits", resolution, channels=1)


@pytest.mark.parametrize("name", ["digits", "textures", "folder"])
@pytest.mark.parametrize(
    ("resolution", "channels", "error", "message"),
    [
        (0, 1, ValueError, "resolution is 0, expected at least 1"),
        ((8, -8), 1, ValueError, r"resolution is \(8, -8\), expected at least 1"),
        (8.0, 1, TypeError, r"resolution is 8.0, expected an integer or \(height, width\)"),
        ((8, 8, 8), 1, TypeError, r"resolution is \(8, 8, 8\), expected an integer"),
        (True, 1, TypeError, "resolution is True, expected an integer"),
        (8, 2, ValueError, r"channels is 2, expected 1 \(grey\) or 3 \(RGB\)"),
    ],
)
def test_shapes_that_no_image_has(name, resolution, channels, error, message):
    with pytest.raises(error, match=message):
        load(name, resolution, channels)


@pytest.fixture
def pictures(tmp_path):
    """A red and a blue picture, the blue one nested, beside files that are not images."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    Image.new("RGB", (40, 20), (255, 0, 0)).save(tmp_path / "a.png")
    Image.new("RGBA", (20, 40), (0, 0, 255, 255)).save(tmp_path / "deep" / "er" / "b.PNG")
    Image.new("L", (9, 9)).save(tmp_path / ".hidden" / "c.png")
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


def test_folder_is_read_at_any_depth_in_order(pictures):
    images = folder(pictures, resolution=16, channels=3)
    assert images.pixels.shape == (2, 3, 16, 16)
    assert images.pixels.dtype == torch.uint8
    batch = images.batch(torch.tensor([0, 1]))
    assert batch.dtype == torch.float32
    assert batch[0, :, 8, 8].tolist() == [1, -1, -1]
    assert batch[1, :, 8, 8].tolist() == [-1, -1, 1]


def test_folder_to_grey(pictures):
    assert load(str(pictures), resolution=8, channels=1).shape == (1, 8, 8)


def test_folder_keeps_the_centre(tmp_path):
    """A wide picture, white in its middle third: only that is left."""
    pixels = np.zeros((10, 30), np.uint8)
    pixels[:, 10:20] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    assert folder(tmp_path, resolution=10, channels=1).pixels.unique().tolist() == [255]


def test_folder_at_unequal_sides(tmp_path):
    """Proportions of 1:2 keep the middle half of a square's rows, and every column."""
    pixels = np.zeros((32, 32), np.uint8)
    pixels[8:24] = np.arange(32) * 8
    Image.fromarray(pixels).save(tmp_path / "square.png")
    images = folder(tmp_path, resolution=(16, 32), channels=1)
    assert images.shape == (1, 16, 32)
    np.testing.assert_array_equal(images.pixels[0, 0].numpy(), pixels[8:24])


def test_folder_turns_photographs_upright(tmp_path):
    pixels = np.zeros((10, 10), np.uint8)
    pixels[:5] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(pixels).save(tmp_path / "photo.png", exif=exif)
    upright = folder(tmp_path, resolution=10, channels=1).pixels[0, 0]
    assert upright[0].unique().tolist() == [0]
    assert upright[-1].unique().tolist() == [255]


def test_missing_folder(tmp_path):
    with pytest.raises(UserError, match=r"--data is '.*nowhere', which does not exist; expected"):
        folder(tmp_path / "nowhere", 8, 1)


def test_file_instead_of_folder(pictures):
    with pytest.raises(UserError, match=r"--data is '.*a.png', which is a file; expected"):
        folder(pictures / "a.png", 8, 1)


def test_empty_folder(tmp_path):
    with pytest.raises(UserError, match=r"--data is '.*', a folder without images; expected files that Pillow reads"):
        folder(tmp_path, 8, 1)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n cut off", b"plain text"])
def test_unreadable_file_is_named(pictures, content):
    (pictures / "broken.png").write_bytes(content)
    with pytest.raises(UserError, match=r"--data holds '.*broken.png', which is not a readable image: ") as caught:
        folder(pictures, 8, 1)
    assert "\n" not in str(caught.value)


def test_truncated_file_is_named(pictures):
    whole = pictures / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(whole)
    whole.write_bytes(whole.read_bytes()[:-2000])
    with pytest.raises(UserError, match=r"noise.png"):
        folder(pictures, 8, 1)


def test_uint8_covers_the_whole_range():
    images = Images("all", torch.arange(256, dtype=torch.uint8).view(256, 1, 1, 1))
    batch = images.batch(torch.arange(256)).flatten()
    assert (batch[0], batch[255]) == (-1, 1)
    assert (batch.diff() > 0).all()


def test_leading_dimensions_number_the_images():
    pixels = torch.rand(3, 4, 5, 1, 2, 2)
    images = Images("many", pixels)
    assert (len(images), images.shape) == (60, (1, 2, 2))
    assert torch.equal(images.batch(torch.tensor([7, 0, 59])), pixels.flatten(0, 2)[[7, 0, 59]])
    assert images.batch(torch.tensor([], dtype=torch.int64)).shape == (0, 1, 2, 2)


@pytest.mark.parametrize("index", [-1, 60])
def test_an_image_that_is_not_there(index):
    with pytest.raises(IndexError, match=rf"indices are \[0, {index}\], expected 0 to 59"):
        Images("many", torch.rand(3, 4, 5, 1, 2, 2)).batch(torch.tensor([0, index]))


def test_reading_needs_no_seed():
    labelled = Images("few", torch.rand(6, 1, 2, 2), torch.arange(6) % 2, ("a", "b"))
    found = labelled.read(torch.tensor([4, 1]), seed=9)
    assert found.keys() == {"image", "label"}
    assert torch.equal(found["image"], labelled.pixels[[4, 1]])
    assert found["label"].tolist() == [0, 1]
    assert Images("none", torch.rand(6, 1, 2, 2)).read(torch.tensor([0]), 0).keys() == {"image"}
