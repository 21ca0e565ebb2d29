"""The stand-ins for the code bases, importable by the names of the originals for one test at a time."""

import shutil
import sys
from pathlib import Path

import pytest

from fastgan.integrations import stylegan
from fastgan.integrations.stylegan import installation

CODE = Path(__file__).parent / "codebases"
NAMES = ("torch_utils", "training", "op", "model", "models", "dnnlib")


def is_codebase(name):
    return name.split(".")[0] in NAMES


@pytest.fixture
def codebase(monkeypatch, one_thread):
    """A function that puts a code base, or a folder, at the front of the import path."""
    for name in [name for name in sys.modules if is_codebase(name)]:
        monkeypatch.delitem(sys.modules, name)

    def use(name):
        monkeypatch.syspath_prepend(CODE / name)

    yield use
    if installation._active is not None:
        stylegan.uninstall()
    for name in [name for name in sys.modules if is_codebase(name)]:
        del sys.modules[name]


@pytest.fixture
def compiling(tmp_path):
    """Rosinality's package as it is published: two of its modules compile while they are imported."""
    folder = tmp_path / "compiling"
    shutil.copytree(CODE / "rosinality", folder)
    for name in ("fused_act", "upfirdn2d"):
        file = folder / "op" / f"{name}.py"
        text = file.read_text().replace(
            "calls = []",
            f"from torch.utils.cpp_extension import load\n\nload('{name}', sources=['missing.cpp'])\ncalls = []",
        )
        file.write_text(text)
    return folder
