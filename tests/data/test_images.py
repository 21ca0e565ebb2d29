"""The digits, folders of images and the order in which they are read."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from fastgan.data import EpochOrder, Images, digit_labels, digits, folder, load
from fastgan.errors import UserError


def test_digits_are_scikit_learns():
    images, bunch = digits(), load_digits()
    assert images.pixels.shape == (1797, 1, 8, 8)
    assert images.pixels.dtype == torch.float32
    assert (images.pixels.min(), images.pixels.max()) == (-1, 1)
    np.testing.assert_array_equal((images.pixels[:, 0].numpy() + 1) * 8, bunch.images)
    np.testing.assert_array_equal(digit_labels().numpy(), bunch.target)


def test_digits_at_another_size_are_refused():
    with pytest.raises(UserError, match=r"--data is 'digits', images of 1x8x8; the preset expects 3x32x32"):
        load("digits", resolution=32, channels=3)


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
    with pytest.raises(UserError, match=r"--data is '.*', a folder without images; expected files ending in .bmp"):
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


def test_an_epoch_visits_each_image_at_most_once():
    order = EpochOrder(length=23, batch_size=5, seed=3)
    epochs = [torch.cat([next(order) for _ in range(4)]) for _ in range(3)]
    for epoch in epochs:
        assert len(epoch.unique()) == 20
        assert set(epoch.tolist()) <= set(range(23))
    assert not torch.equal(epochs[0], epochs[1])


@pytest.mark.parametrize("read", [0, 1, 3, 4, 5, 9])
def test_order_continues_inside_an_epoch(read):
    order = EpochOrder(length=23, batch_size=5, seed=3)
    for _ in range(read):
        next(order)
    state = order.state_dict()
    expected = [next(order) for _ in range(11)]
    other = EpochOrder(length=23, batch_size=5, seed=99)
    other.load_state_dict(state)
    assert all(torch.equal(next(other), batch) for batch in expected)


@pytest.mark.parametrize("batch_size", [0, -1, 24])
def test_batch_size_must_fit(batch_size):
    with pytest.raises(ValueError, match=f"batch_size is {batch_size}, expected 1 to 23"):
        EpochOrder(length=23, batch_size=batch_size, seed=0)
