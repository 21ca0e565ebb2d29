"""Labels: the classes of the digits and of a folder's subfolders."""

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from fastgan.data import Images, digits, folder, load


@pytest.mark.parametrize("resolution", [8, 16])
def test_digits_have_scikit_learns_classes(resolution):
    images = digits(resolution)
    assert images.labels.tolist() == load_digits().target.tolist()
    assert images.classes == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    assert images.class_counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_textures_have_none():
    images = load("textures", 64, 1)
    assert (images.labels, images.classes, images.class_counts.tolist()) == (None, (), [])


def grey(path, level):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), level).save(path)


@pytest.fixture
def pets(tmp_path):
    """Images whose grey level says which they are, written in no order."""
    grey(tmp_path / "dogs" / "z.png", 30)
    grey(tmp_path / "cats" / "b.png", 10)
    grey(tmp_path / "dogs" / "small" / "puppy.png", 40)
    grey(tmp_path / "cats" / "a.png", 20)
    (tmp_path / "fish").mkdir()
    (tmp_path / "fish" / "notes.txt").write_text("no image")
    grey(tmp_path / ".trash" / "c.png", 50)
    return tmp_path


def test_subfolders_are_classes(pets):
    images = folder(pets, 8, 1)
    assert images.classes == ("cats", "dogs")
    of_level = {
        int(image[0, 0, 0]): images.classes[label] for image, label in zip(images.pixels, images.labels, strict=True)
    }
    assert of_level == {10: "cats", 20: "cats", 30: "dogs", 40: "dogs"}
    assert images.labels.dtype == torch.int64
    assert images.class_counts.tolist() == [2, 2]


def test_one_image_outside_of_them_leaves_all_without(pets):
    before = folder(pets, 8, 1)
    grey(pets / "whatever.png", 60)
    after = folder(pets, 8, 1)
    assert (after.labels, after.classes) == (None, ())
    assert torch.equal(after.pixels[:4], before.pixels)


@pytest.mark.parametrize(
    ("labels", "classes", "error", "message"),
    [
        (None, ("a",), ValueError, r"classes are \('a',\), expected none: labels is None"),
        (torch.zeros(3), ("a",), TypeError, r"labels are torch.float32, expected torch.int64"),
        (torch.tensor([0, 1]), ("a", "b"), ValueError, r"labels have shape \[2\], expected \[3\], one for each image"),
        (torch.tensor([0, 2, 1]), ("a", "b"), ValueError, r"labels hold 2, expected 0 to 1, as there are 2 classes"),
        (torch.tensor([0, -1, 1]), ("a", "b"), ValueError, r"labels hold -1, expected 0 to 1"),
    ],
)
def test_labels_that_do_not_fit(labels, classes, error, message):
    with pytest.raises(error, match=message):
        Images("three", torch.zeros(3, 1, 8, 8), labels, classes)
