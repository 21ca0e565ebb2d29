"""The programs of docs/examples run and print what they promise; code in the README and docs/layers.md runs."""

import re
import runpy
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("sklearn", reason="the examples use scikit-learn's digits")

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "examples"
PRINTED = {
    "accelerate_dcgan": r"spectral_norm, one call for the model.*after 20 steps the critic's hinge loss is \d\.\d\d",
    "adversarial_autoencoder": r"mean square of the error: 0\.(0|1)\d+",
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


def test_the_readme_code_steps_a_critic():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    critic = nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
    before = critic[0].weight.detach().clone()
    optimizer = torch.optim.SGD(critic.parameters(), 0.1)
    exec(code, {"critic": critic, "real": torch.randn(3, 4), "fake": torch.randn(3, 4), "optimizer": optimizer})
    assert not torch.equal(critic[0].weight, before)


def test_the_code_of_the_page_on_layers_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "layers.md").read_text(), re.DOTALL)
    names = {}
    for block in blocks:
        exec(block, names)
    assert names["logits"].shape == (8, 1)
    assert names["report"].before_ms > 0
