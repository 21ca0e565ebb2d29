"""Runs with gradient penalties: logged, said once how, resumed with the same ones, and refused otherwise."""

import json
from itertools import product

import pytest
import torch

from fastgan.errors import UserError
from fastgan.losses import LOSSES
from fastgan.penalties import R1, R2, WGANGP
from fastgan.train import load_generator, resume, train
from fastgan.train.checkpoint import read_checkpoint, write_checkpoint
from fastgan.train.step import Step
from tests.rotation import in_turn


def log_of(result):
    lines = [json.loads(line) for line in (result.run / "log.jsonl").read_text().splitlines()]
    assert all(line.pop("images_per_second") > 0 for line in lines)
    return lines


PRESETS, PENALTIES = ("digits-dcgan", "digits-resnet"), ("none", "r1:1,r2:1", "wgan-gp:10")


@pytest.mark.parametrize(
    ("loss", "penalty", "preset"), in_turn(list(product(LOSSES, PENALTIES, PRESETS)), "objectives train", run=36)
)
def test_every_objective_trains(tiny, loss, penalty, preset):
    result = train(tiny(preset=preset, loss=loss, penalty=penalty, steps=2), quiet=True)
    names = [part.split(":")[0] for part in penalty.split(",") if part != "none"]
    expected = {"step", "critic", "generator"}
    expected |= {f"{kind}_{name}" for kind in ("penalty", "gradient_norm") for name in names}
    assert [line.keys() for line in log_of(result)] == [expected] * 2
    assert load_generator(result.run).sample(4).isfinite().all()


def test_how_the_gradient_is_computed_is_said_once(tiny, capsys):
    train(tiny("affine", preset="digits-resnet", penalty="r1:1,r2:1", steps=3))
    assert capsys.readouterr().out.splitlines()[1] == "gradient of r1:1,r2:1: one pass"
    train(tiny("not", preset="digits-dcgan", penalty="wgan-gp:10", steps=3))
    out = capsys.readouterr().out
    said = out.splitlines()[1]
    assert said.startswith("gradient of wgan-gp:10: double backward, because ")
    assert "MinibatchDiscrimination" in said
    assert out.count("gradient of") == 1
    train(tiny("features", preset="digits-resnet", loss="mmd", penalty="wgan-gp:1", steps=3))
    said = "gradient of wgan-gp:1: double backward, because the loss is of several numbers per sample, and"
    assert capsys.readouterr().out.splitlines()[1].startswith(said)
    train(tiny("none", preset="digits-resnet", penalty="none", steps=3))
    assert "gradient of" not in capsys.readouterr().out


def test_figures_are_read_at_log_steps_alone(tiny, monkeypatch):
    """Each reading waits for the device."""
    read = []
    scalars = Step.scalars
    monkeypatch.setattr(Step, "scalars", lambda step: read.append(1) or scalars(step))
    train(tiny(preset="digits-resnet", penalty="r1:1", steps=7, log_every=3), quiet=True)
    assert len(read) == 2  # steps 3 and 6


@pytest.mark.parametrize(
    ("loss", "preset"), in_turn(list(product(("wasserstein", "mmd"), PRESETS)), "resumed with penalties")
)
def test_resumed_run_has_the_same_penalties_and_numbers(tiny, preset, loss):
    """The points between data and samples come from the run's own random stream."""
    changes = {"preset": preset, "loss": loss, "penalty": "wgan-gp:10,r1:0.5"}
    whole = train(tiny("whole", steps=6, **changes), quiet=True)
    train(tiny("parts", steps=3, **changes), quiet=True)
    parts = resume(tiny("parts").out, quiet=True, steps=6)
    assert log_of(whole) == log_of(parts)
    one, other = (read_checkpoint(result.checkpoint)[0] for result in (whole, parts))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_another_penalty_is_another_run(tiny):
    result = train(tiny(preset="digits-resnet", penalty="r1:1,r2:1", steps=1), quiet=True)
    with pytest.raises(
        UserError, match=r"--penalty is 'r1:2,r2:1', but the run was started with 'r1:1,r2:1'; expected"
    ):
        resume(result.run, quiet=True, steps=2, penalty="r1:2,r2:1")
    with pytest.raises(UserError, match=r"--penalty is 'none', but the run was started with 'r1:1,r2:1'"):
        resume(result.run, quiet=True, steps=2, penalty="none")
    assert resume(result.run, quiet=True, steps=2, penalty="r1:1.0, r2:1.0").step == 2


def test_a_run_from_before_there_were_penalties_resumes(tiny):
    whole = train(tiny("whole"), quiet=True)
    old = train(tiny("old", steps=3), quiet=True)
    tensors, header = read_checkpoint(old.checkpoint)
    assert header["config"].pop("penalty") == ""
    write_checkpoint(old.run, header, tensors, 1)
    assert load_generator(old.run).config.regularisation.penalties == ()
    with pytest.raises(UserError, match=r"--penalty is 'r1:1', but the run was started with ''"):
        resume(old.run, quiet=True, steps=6, penalty="r1:1")
    assert log_of(resume(old.run, quiet=True, steps=6, penalty="none")) == log_of(whole)


def test_settings(tiny):
    assert tiny().penalty == ""
    assert tiny(penalty="r1:0.1,r2").regularisation.penalties == (R1(0.1), R2(10.0))
    assert tiny(penalty="wgan-gp:5:one-sided").regularisation.penalties == (WGANGP(5.0, one_sided=True),)
    assert tiny(penalty="none").regularisation.penalties == ()
    for wrong in ("r3", "r1:x", "r1:-1", "wgan-gp:inf", "r1=1"):
        with pytest.raises(UserError, match=rf"^--penalty is '{wrong}': .*expected"):
            tiny(penalty=wrong)


def test_a_penalty_that_is_not_finite_is_named(tiny, monkeypatch):
    scalars = Step.scalars
    monkeypatch.setattr(Step, "scalars", lambda step: {**scalars(step), "penalty_r1": torch.tensor(float("inf"))})
    with pytest.raises(UserError, match=r"the penalty_r1 is inf at step 1, expected a finite one; .*Lower --lr"):
        train(tiny(preset="digits-resnet", penalty="r1:1"), quiet=True)
