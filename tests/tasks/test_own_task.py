"""A task that a user wrote, docs/examples/adversarial_autoencoder.py: trained, resumed, played with another game."""

import re
import shutil
from pathlib import Path

import pytest
import torch

from fastgan import recipes
from fastgan.errors import UserError
from fastgan.train.checkpoint import read_checkpoint
from tests.command_line import assert_refused, call

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "adversarial_autoencoder.py"
SMALL = ["run.batch_size=16", "run.log_every=1", "run.device=cpu", "game.lr=1e-3", "game.lr_critic=1e-3"]


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The example as a module of the present folder."""
    name = f"own_{tmp_path.name.replace('-', '_')}"
    shutil.copy(EXAMPLE, tmp_path / f"{name}.py")
    monkeypatch.chdir(tmp_path)
    return f"{name}:AdversarialAutoencoder"


@pytest.mark.parametrize("game", ["alternating", "extragradient", "consensus:0.1", "runge-kutta"])
def test_it_learns_to_reconstruct_under_any_game(module, game):
    recipe = recipes.resolved({"task": {"kind": "python", "function": module}, "run": {"steps": 60}}, SMALL + (
        ["game.lr=0.2", "game.lr_critic=0.2"] if game == "runge-kutta" else []
    ) + [f"game.kind={game}", "run.ema=0.9"], {"image": "digits"})  # fmt: skip
    run = recipes.run_of(recipe)
    given = run.engine.reader.first(64)

    def error():
        return (run.task.sample(64, given=given) - given["image"]).square().mean().item()

    before = error()
    for step in run:
        assert step.log.keys() == {"critic", "generator", "error"}
    assert error() < 0.6 * before


def test_it_is_resumed_bit_for_bit_from_the_command_line(module, tmp_path):
    train = ("train", "--task", module, "--data", "digits")
    code, out, _ = call(*train, "--out", tmp_path / "whole", "run.steps=6", *SMALL)
    assert code == 0
    assert out.startswith(f"importing and running {module}\n")
    assert call(*train, "--out", tmp_path / "parts", "run.steps=3", *SMALL)[0] == 0
    resumed = ("train", "--resume", "--out", tmp_path / "parts", "run.steps=6")
    assert call(*resumed, "--task", module)[0] == 0
    one, other = (
        read_checkpoint(tmp_path / name / "checkpoints" / "step-00000006.safetensors")[0] for name in ("whole", "parts")
    )
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    assert call("sample", tmp_path / "parts", "--task", module, "--out", tmp_path / "picture.png")[0] == 0
    assert (tmp_path / "picture.png").stat().st_size > 1000


def test_a_run_s_folder_does_not_decide_what_is_imported(module, tmp_path):
    assert call("train", "--task", module, "--data", "digits", "--out", tmp_path / "run", "run.steps=1", *SMALL)[0] == 0
    expected = f"the run's task is made by {module}; expected --task {module}, which imports and runs it"
    assert_refused(call("sample", tmp_path / "run"), expected)
    assert_refused(call("train", "--resume", "--out", tmp_path / "run", "run.steps=2"), expected)
    with pytest.raises(UserError, match="expected --task"):
        recipes.load(tmp_path / "run", function="os:system")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("adversarial", "task.function is 'adversarial', expected package.module:function"),
        ("nowhere.at_all:make", "task.function is 'nowhere.at_all:make': No module named 'nowhere'"),
        ("json:nothing", "task.function is 'json:nothing', but json has no function nothing"),
        ("builtins:dict", "builtins:dict returned dict, expected a fastgan.tasks.Task"),
    ],
)
def test_what_is_no_task(function, message, tmp_path):
    code, _, err = call("train", "--task", function, "--data", "digits", "--out", tmp_path / "run", "run.steps=1")
    assert (code, err) == (2, f"error: {message}\n")


def test_the_page_shows_the_example():
    """What docs/own-networks.md shows of it is in it, line by line."""
    page, program = (ROOT / "docs" / "own-networks.md").read_text(), EXAMPLE.read_text()
    (shown,) = re.findall(r"```python\n(class AdversarialAutoencoder.*?)```", page, re.DOTALL)
    lines = [line for line in shown.splitlines() if line and "..." not in line]
    assert len(lines) > 10
    assert [line for line in lines if line not in program.splitlines()] == []


def test_the_other_code_of_the_page_runs(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "own-networks.md").read_text()
    first, second = re.findall(r"```python\n(from .*?)```", page, re.DOTALL)
    from fastgan.models import ResNetCritic, ResNetGenerator

    monkeypatch.chdir(tmp_path)
    names = {"generator": ResNetGenerator(64, 1, 8, 4), "critic": ResNetCritic(1, 8, 4)}
    exec(first.replace('"photos/"', '"digits"').replace("10_000", "2"), names)
    assert names["images"].shape == (64, 1, 8, 8)
    names["task"] = names["run"].task
    exec(second.replace("steps=100", "steps=2"), names)
