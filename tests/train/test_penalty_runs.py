"""Runs with gradient penalties: logged, said once how, resumed with the same ones, and refused otherwise."""

from itertools import product

import pytest
import torch

from fastgan import recipes
from fastgan.errors import UserError
from fastgan.losses import LOSSES
from fastgan.penalties import R1, R2, WGANGP
from fastgan.train.run import Run
from tests.rotation import in_turn
from tests.train.steps import begun, log_of, recipe_of, resumed

pytestmark = pytest.mark.usefixtures("one_thread")
RECIPES, PENALTIES = ("digits-dcgan", "digits-resnet"), ("", "r1:1,r2:1", "wgan-gp:10")


@pytest.mark.parametrize(
    ("loss", "penalty", "recipe"), in_turn(list(product(LOSSES, PENALTIES, RECIPES)), "objectives train", run=36)
)
def test_every_objective_trains(tmp_path, recipe, loss, penalty):
    outcome = recipes.start(recipe_of(recipe, loss=loss, penalty=penalty, steps=2), tmp_path / "run", quiet=True)
    names = [part.split(":")[0] for part in penalty.split(",") if part]
    expected = {"step", "critic", "generator"} | ({"real_output", "fake_output"} if loss == "began" else set())
    expected |= {f"{kind}_{name}" for kind in ("penalty", "gradient_norm") for name in names}
    assert [line.keys() for line in log_of(outcome.folder)] == [expected] * 2
    assert recipes.load(outcome.folder).task.sample(4).isfinite().all()


def test_how_the_gradient_is_computed_is_said_once(tmp_path, capsys):
    def said(name, recipe, **settings):
        recipes.start(recipe_of(recipe, steps=3, **settings), tmp_path / name)
        return capsys.readouterr().out

    assert said("affine", "digits-resnet", penalty="r1:1,r2:1").splitlines()[1] == "gradient of the penalties: one pass"
    out = said("not", "digits-dcgan", penalty="wgan-gp:10")
    assert out.splitlines()[1].startswith("gradient of the penalties: double backward, because ")
    assert "MinibatchDiscrimination" in out.splitlines()[1]
    assert out.count("gradient of") == 1
    out = said("features", "digits-resnet", loss="mmd", penalty="wgan-gp:1")
    because = "gradient of the penalties: double backward, because the loss is of several numbers per sample, and"
    assert out.splitlines()[1].startswith(because)
    assert "gradient of" not in said("none", "digits-resnet", penalty="")


@pytest.mark.parametrize("method", ["one_pass", "double_backward"])
def test_the_method_can_be_chosen(method):
    run = begun(recipe_of("digits-resnet", penalty_method=method))
    next(run)
    assert run.task.remark == f"gradient of the penalties: {method.replace('_', ' ')}"


def test_figures_are_read_at_log_steps_alone(tmp_path, monkeypatch):
    """Each reading waits for the device."""
    read = []
    monkeypatch.setattr("fastgan.train.loop._finite", lambda taken: read.append(taken.number) or {"critic": 1.0})
    recipe = recipe_of("digits-resnet", penalty="r1:1", steps=7, log_every=3)
    recipes.start(recipe, tmp_path / "run", quiet=True)
    assert read == [3, 6]


@pytest.mark.parametrize(
    ("loss", "recipe"), in_turn(list(product(("wasserstein", "mmd"), RECIPES)), "resumed with penalties")
)
def test_resumed_run_has_the_same_penalties_and_numbers(tmp_path, recipe, loss):
    """The points between data and samples are drawn anew in every step."""
    resumed(tmp_path, recipe, loss=loss, penalty="wgan-gp:10,r1:0.5", steps=6)


def test_another_penalty_is_another_run(tmp_path):
    def start(resume=True, **settings):
        return recipes.start(recipe_of("digits-resnet", **settings), tmp_path / "run", resume=resume, quiet=True)

    start(resume=False, penalty="r1:1,r2:1", steps=1)
    with pytest.raises(UserError, match=r"task.penalty is 'r1:2,r2:1', but the run was started with 'r1:1,r2:1'; exp"):
        start(steps=2, penalty="r1:2,r2:1")
    with pytest.raises(UserError, match=r"task.penalty is '', but the run was started with 'r1:1,r2:1'"):
        start(steps=2, penalty="")
    assert start(steps=2, penalty="r1:1,r2:1").run.step == 2


def test_settings():
    def penalties(text):
        return recipe_of("digits-resnet", penalty=text).task.penalties()

    assert recipe_of("digits-dcgan").task.penalty == ""
    assert penalties("r1:0.1,r2") == (R1(0.1), R2(10.0))
    assert penalties("wgan-gp:5:one-sided") == (WGANGP(5.0, one_sided=True),)
    assert penalties("none") == penalties("") == ()
    for wrong in ("r3", "r1:x", "r1:-1", "wgan-gp:inf", "r1=1"):
        with pytest.raises(UserError, match=rf"^task.penalty is '{wrong}': .*expected"):
            penalties(wrong)


def test_the_weight_may_follow_a_schedule():
    """The critic's gradient is linear in it."""
    found = {}
    for weight in (0.0, 1.0, "{from: 1.0, to: 0.0, over: 4}"):
        run = begun(recipe_of("digits-resnet", penalty="r1:4", penalty_weight=weight, lr=1e-30, lr_critic=1e-30))
        found[str(weight)] = [torch.cat([p.grad.flatten() for p in run.task.critics.parameters()])
                              for _ in range(3) if next(run)]  # fmt: skip
    plain, whole, moving = found.values()
    for step in range(3):
        torch.testing.assert_close(
            moving[step], (1 - step / 4) * whole[step] + step / 4 * plain[step], rtol=1e-4, atol=1e-5
        )


def test_a_penalty_that_is_not_finite_is_named(tmp_path, monkeypatch):
    plain = Run.__next__

    def step(run):
        taken = plain(run)
        return taken._replace(log={**taken.log, "penalty_r1": torch.tensor(float("inf"))})

    monkeypatch.setattr(Run, "__next__", step)
    with pytest.raises(UserError, match=r"penalty_r1 is inf at step 1, expected a finite number; .*Lower game.lr"):
        recipes.start(recipe_of("digits-resnet", penalty="r1:1"), tmp_path / "run", quiet=True)
