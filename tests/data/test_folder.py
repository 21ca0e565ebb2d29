"""Folders of images: the files that are read or left out, the remarks about them, and when two are equal."""

import os
import shutil

import PIL
import pytest
from PIL import Image

from fastgan.data import digits, folder
from fastgan.errors import UserError


def picture(path, level=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (9, 9), level).save(path, **options)
    return path


def read(path):
    return folder(path, resolution=8, channels=1)


@pytest.mark.parametrize("ending", [".jfif", ".jpe", ".jp2", ".tga", ".JPG", ".apng"])
def test_every_ending_that_pillow_reads(ending, tmp_path):
    picture(tmp_path / f"one{ending}", 77)
    images = read(tmp_path)
    assert (len(images), images.remarks) == (1, ())
    assert abs(images.pixels.float().mean() - 77) < 2


@pytest.mark.skipif(".avif" not in Image.registered_extensions(), reason="this Pillow has no AVIF")
def test_avif(tmp_path):
    picture(tmp_path / "one.avif")
    assert len(read(tmp_path)) == 1


def test_what_is_left_out_is_said_and_why(tmp_path):
    for name in ("cat/1.png", "cat/2.png", "dog/1.png", ".hidden/1.png"):
        picture(tmp_path / name)
    (tmp_path / "fish").mkdir()
    for number in range(4):
        (tmp_path / "cat" / f"{number}.txt").write_text("not an image")
    (tmp_path / "dog" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "dog" / "itself.png").symlink_to(tmp_path / "dog" / "itself.png")
    images = read(tmp_path)
    assert images.classes == ("cat", "dog")
    assert images.summary() == (
        f"{tmp_path}: 3 images of 1x8x8, 2 classes\n"
        "  left out 1 hidden: .hidden\n"
        f"  left out 4 whose ending is of no image that Pillow {PIL.__version__} reads: cat/0.txt, cat/1.txt, "
        "cat/2.txt, ...\n"
        "  left out 2 no file, or a link to nothing: dog/gone.png, dog/itself.png\n"
        "  left out 1 empty class: fish"
    )
    assert digits().summary() == "digits: 1797 images of 1x8x8, 10 classes"


def test_what_an_image_lost_is_said(tmp_path):
    picture(tmp_path / "opaque.png")
    Image.new("LA", (9, 9), (10, 0)).save(tmp_path / "clear.png")
    pages = [Image.new("L", (9, 9), level) for level in (1, 2)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    images = read(tmp_path)
    assert images.pixels.flatten(1)[:, 0].tolist() == [255, 0, 1]
    assert images.remarks == (
        "1 with several pictures in a file, of which one is read: pages.tif",
        "1 with transparent pixels, laid over white: clear.png",
    )


def test_linked_folders_and_files_are_read(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    picture(elsewhere / "deep" / "1.png", 1)
    picture(elsewhere / "2.png", 2)
    data = tmp_path / "data"
    data.mkdir()
    (data / "linked").symlink_to(elsewhere)
    (data / "again").symlink_to(elsewhere)
    (data / "own").mkdir()
    (data / "own" / "3.png").symlink_to(elsewhere / "2.png")
    images = read(data)
    assert images.classes == ("again", "linked", "own")
    assert images.labels.tolist() == [0, 0, 1, 1, 2]
    assert images.pixels.flatten(1)[:, 0].tolist() == [2, 1, 2, 1, 2]


def test_links_in_a_circle_end(tmp_path):
    picture(tmp_path / "a" / "1.png")
    picture(tmp_path / "b" / "2.png")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "across").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "back").symlink_to(tmp_path / "a")
    images = read(tmp_path)
    assert len(images) == len(["a/1.png", "a/across/2.png", "b/2.png", "b/back/1.png"])
    assert images.remarks == ("left out 6 linked to a folder that is read already: a/across/back, a/self, a/up, ...",)


def test_folders_that_all_link_to_each_other(tmp_path):
    """Twelve of them: along every path there would be billions."""
    folders = [tmp_path / f"{number:02}" for number in range(12)]
    for folder_ in folders:
        picture(folder_ / "1.png")
    for folder_ in folders:
        for other in folders:
            (folder_ / f"to-{other.name}").symlink_to(other)
    images = read(tmp_path)
    assert images.class_counts.tolist() == [12] * 12


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read(tmp_path):
    picture(tmp_path / "1.png")
    (tmp_path / "locked").mkdir(mode=0)
    with pytest.raises(UserError, match=r"--data holds '.*locked', which cannot be read: Permission denied"):
        read(tmp_path)


def test_names_that_are_no_text(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9")).mkdir()
    (tmp_path / "two\nlines.txt").write_text("")
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("")
    picture(tmp_path / os.fsdecode(b"caf\xe9") / "1.png")
    images = read(tmp_path)
    images.summary().encode()
    assert images.summary().count("\n") == 1
    assert len(images.digest) == 64


def test_an_image_of_numbers_without_a_range_is_named(tmp_path):
    Image.new("F", (9, 9), 0.5).save(tmp_path / "float.tif")
    message = r"--data holds '.*float.tif', which is not a readable image: its pixels are floating-point numbers, which"
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def test_the_digest_is_of_names_and_contents(tmp_path):
    first = tmp_path / "first"
    picture(first / "a" / "1.png", 1)
    picture(first / "b" / "2.png", 2)
    copy = shutil.copytree(first, tmp_path / "copy")
    digest = read(first).digest
    assert read(copy).digest == digest
    assert folder(copy, 4, 3).digest == digest  # of the files, whatever is made of them
    (copy / "b" / "2.png").rename(copy / "b" / "3.png")
    assert read(copy).digest != digest
    (copy / "b" / "3.png").rename(copy / "b" / "2.png")
    assert read(copy).digest == digest
    picture(copy / "b" / "2.png", 3)
    assert os.path.getsize(copy / "b" / "2.png") == os.path.getsize(first / "b" / "2.png")
    assert read(copy).digest != digest
