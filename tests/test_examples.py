"""The programs of docs/examples run and print what they promise."""

import re
import runpy
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="the examples use scikit-learn's digits")

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "examples"
PRINTED = {
    "accelerate_dcgan": r"spectral_norm, one call for the model.*after 20 steps the critic's hinge loss is \d\.\d\d",
    "explain": r"in norm: BatchNorm2d.*one pass: piecewise affine.*double_backward: loss .*\none_pass: loss",
    "minibatch_discrimination": r"by itself is right about [4-6]\d%.*discrimination is right about (9\d|100)%",
    "r1_r2": r"step 100: loss \d\.\d+, r1 0\.\d+, r2 0\.\d+, computed by one_pass",
    "wgan_gp_grad_scaler": r"distance \d\.\d\d, gradient norm [01]\.\d\d \(goal 1\), loss scale [1-9]\d+",
}


def test_every_example_is_run_here():
    assert sorted(path.stem for path in FOLDER.glob("*.py")) == sorted(PRINTED)


@pytest.mark.parametrize("name", PRINTED)
def test_example_prints_its_result(name, capsys):
    path = FOLDER / f"{name}.py"
    assert len(path.read_text().splitlines()) <= 40
    runpy.run_path(str(path), run_name="__main__")
    assert re.search(PRINTED[name], capsys.readouterr().out, re.DOTALL)
