"""Every name that a folder can have picks its class."""

import os
import unicodedata

import pytest
from PIL import Image

from fastgan.errors import UserError
from fastgan.tasks.class_names import labels_of, listed
from tests.command_line import call

CLASSES = [
    "-x",
    "--label",
    "0",
    "0,1",
    "1",
    "10",
    " led",
    "a:b",
    "cat",
    "cat, small",
    "café",
    "two words",
    "日本",
    "\udce9",
]


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_is_found_by_its_name(name):
    assert labels_of([name], CLASSES) == [CLASSES.index(name)]


def test_several():
    assert labels_of(["0,1", "1,10,cat", "cat, small"], CLASSES) == [
        CLASSES.index(n) for n in ("0,1", "1", "10", "cat", "cat, small")
    ]
    assert labels_of(["cat, two words"], CLASSES) == [CLASSES.index("cat"), CLASSES.index("two words")]
    assert labels_of([], CLASSES) == []


def test_letters_composed_otherwise():
    assert labels_of([unicodedata.normalize("NFD", "café")], CLASSES) == [CLASSES.index("café")]
    both = ["café", unicodedata.normalize("NFD", "café")]
    assert [labels_of([name], both) for name in both] == [[0], [1]]


def test_no_such_class():
    with pytest.raises(
        UserError, match=r"--label is 'dog', expected one of -x, --label, 0, '0,1', 1, 10, ' led', a:b, cat"
    ):
        labels_of(["cat,dog"], CLASSES)
    with pytest.raises(UserError, match="--label is '', expected one of a, b"):
        labels_of(["a,"], ["a", "b"])
    with pytest.raises(UserError, match="--label is '1', expected none: the generator is unconditional"):
        labels_of(["1"], [])
    assert listed(CLASSES).isprintable()


def test_a_run_on_folders_of_such_names(tmp_path):
    """From the folders through the checkpoint to the command line."""
    names = ["-x", "0,1", "a:b", "cat, small", "café", os.fsdecode(b"\xe9")]
    for level, name in enumerate(names):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(3):
            Image.new("L", (8, 8), 40 * level + index).save(tmp_path / "data" / name / f"{index}.png")
    run, png = tmp_path / "run", tmp_path / "out.png"
    changes = ["task.conditional=projection", "run.steps=1", "run.batch_size=16", "run.device=cpu"]
    code, out, _ = call("train", "digits-dcgan", "--data", tmp_path / "data", "--out", run, *changes)
    assert code == 0
    assert "18 images of 1x8x8, 6 classes" in out
    for name in names:
        assert call("sample", run, "--label", name, "--n", 2, "--out", png)[:2] == (0, f"wrote 2 images to {png}\n")
    assert call("sample", run, "--label", "-x", "--label", "cat, small", "--n", 2, "--out", png)[0] == 0
    with Image.open(png) as picture:
        assert picture.size == (2 * 68 + 4, 2 * 68 + 4)
    code, out, err = call("sample", run, "--label", "dog")
    assert (code, out) == (2, "")
    assert err == "error: --label is 'dog', expected one of -x, '0,1', a:b, café, 'cat, small', '\\udce9'\n"
    code, out, err = call("sample", run, "--label", "0,1", "--label", "a:b", "--interpolate")
    assert err == "error: --label is '0,1,a:b', expected one class beside --psi, --mix, --interpolate or --neighbours\n"
