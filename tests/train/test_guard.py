"""Runs that diverge stop, say where, and keep what was good."""

from types import SimpleNamespace

import pytest
import torch

from fastgan import recipes
from fastgan.errors import UserError
from fastgan.losses import Players
from fastgan.train.checkpoint import list_checkpoints, read_checkpoint
from fastgan.train.guard import EVERY, PATIENCE, DivergedError, Guard, gradient_norm
from fastgan.train.run import Run
from fastgan.train.state import not_finite
from tests.command_line import call

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = ["run.batch_size=16", "run.log_every=100", "run.sample_every=100", "run.save_every=2", "run.device=cpu"]


def trained(tmp_path, *changes, resume=False):
    recipe = recipes.read("digits-dcgan", [*SMALL, "run.steps=6", *changes])
    return recipes.start(recipe, tmp_path / "run", resume=resume, quiet=True)


def player(who, norm):
    """One whose gradient has that norm, in two parameters of which a third has none."""
    parameters = [torch.zeros(3, 4), torch.zeros(5), torch.zeros(2)]
    for p in parameters[:2]:
        p.grad = torch.zeros_like(p)
    parameters[0].grad[1, 2], parameters[1].grad[0] = 0.6 * norm, -0.8 * norm
    return SimpleNamespace(who=who, parameters=parameters)


def watch(guard, norms, first=1, losses=(1.0, 2.0)):
    """Steps with these gradient norms of the critic, at which the generator's is 3."""
    for step, norm in enumerate(norms, first):
        game = SimpleNamespace(players=(player("critic", norm), player("generator", 3.0)))
        guard.record(step, game, Players(*map(torch.tensor, losses)))


def test_the_norm_of_a_gradient():
    assert gradient_norm(player("critic", 7.0)).item() == pytest.approx(7, rel=1e-6)
    assert gradient_norm(SimpleNamespace(parameters=[torch.zeros(2)])) == 0


@pytest.mark.parametrize("every", [1, 7, 1000])
def test_norms_that_stay_far_above_their_median(every):
    guard = Guard()
    norms = [2.0, 4.0, 8.0] * 100 + [4.1e4] * PATIENCE
    for first in range(0, len(norms) - 1, every):
        watch(guard, norms[first : min(first + every, len(norms) - 1)], first + 1)
        guard.check()
    message = (
        r"the critic's gradient norm is 4.1e\+04 at step 350 and was above 10000 times its median of 4 for 50 steps"
    )
    watch(guard, norms[-1:], len(norms))
    with pytest.raises(DivergedError, match=message):
        guard.check()


@pytest.mark.parametrize(
    "norms",
    [
        [4.0] * 300 + [4.1e4] * (PATIENCE - 1) + [3.0] + [4.1e4] * (PATIENCE - 1),  # not in a row
        [4.0] * 300 + [3.9e4] * 200,  # not above
        [1e-9] * 300 + [9e3] * 200,  # it had vanished, and recovers
        [5e7] * 300,  # large from the start
        [0.0] * 120,
    ],
)
def test_norms_that_are_no_reason_to_stop(norms):
    guard = Guard()
    watch(guard, norms)
    guard.check()


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_not_finite_is_named_with_its_first_step(wrong):
    guard = Guard()
    watch(guard, [1.0, 1.0, wrong, wrong])
    with pytest.raises(
        DivergedError, match=f"^the critic's gradient norm is {wrong} at step 3, expected a finite one$"
    ):
        guard.check()
    guard = Guard()
    watch(guard, [1.0])
    watch(guard, [1.0], 2, losses=(1.0, wrong))
    with pytest.raises(DivergedError, match=f"^the generator's loss is {wrong} at step 2, expected a finite one$"):
        guard.check()


def test_steps_are_not_read_one_by_one(monkeypatch):
    """Reading waits for the device."""
    read = []
    monkeypatch.setattr("fastgan.train.guard._read", lambda named: read.append(1) or {})
    guard = Guard()
    watch(guard, [1.0] * (EVERY - 1))
    assert read == []
    watch(guard, [1.0], EVERY)
    assert read == [1, 1]  # losses and norms
    guard.check()
    assert read == [1, 1]  # there is nothing new


def test_tensors_that_are_not_finite():
    tensors = {"generator.weight": torch.ones(3), "position": torch.tensor(3), "critic.bias": torch.ones(2)}
    assert not_finite(tensors) == []
    tensors["critic.bias"][1] = torch.inf
    assert not_finite(tensors) == ["critic.bias"]


def test_a_diverged_run_stops_and_is_not_saved(tmp_path):
    message = r"(loss|norm) is (nan|inf) at step \d+, expected a finite one; there is no checkpoint. Lower game.lr"
    with pytest.raises(UserError, match=message):
        trained(tmp_path, "run.steps=50", "game.lr=1e30", "game.lr_critic=1e30", "run.save_every=100")
    assert not list_checkpoints(tmp_path / "run")


# At ten thousand times the recipe's learning rate, which is Adam's.
@pytest.mark.parametrize(("game", "steps"), [("runge-kutta:4", 3), ("drift-correction", 4)])
def test_a_run_that_explodes_says_so_and_saves_nothing(tmp_path, game, steps):
    changes = [f"game.kind={game}", "game.lr=4", "game.lr_critic=4", f"run.steps={steps}", "run.device=cpu"]
    code, _, err = call("train", "digits-dcgan", "--out", tmp_path / "run", *changes)
    assert code == 2
    assert err.startswith(("error: the critic's", "error: the generator's"))
    assert f" at step {err.split(' at step ')[1][0]}, expected a finite one; there is no checkpoint. Lower game" in err
    assert not list_checkpoints(tmp_path / "run")
    assert not list((tmp_path / "run" / "samples").iterdir())


@pytest.mark.parametrize("where", ["gradient", "weight", "moment"])
def test_the_last_good_checkpoint_stays(tmp_path, monkeypatch, where):
    plain = Run.__next__

    def step_and_break(run):
        taken = plain(run)
        p = next(run.task.critics.parameters())
        if run.step == 5:
            moment = run.game.critic.optimizer.state[p]["exp_avg"]
            {"gradient": p.grad, "weight": p.data, "moment": moment}[where][0] = torch.nan
        return taken

    with monkeypatch.context() as patch:
        patch.setattr(Run, "__next__", step_and_break)
        with pytest.raises(UserError) as caught:
            trained(tmp_path)
    run = tmp_path / "run"
    kept = list_checkpoints(run)
    assert [path.stem for path in kept] == ["step-00000002", "step-00000004"]
    # The generator's update of step 6 goes through a critic whose moment has spoilt it.
    said = {"gradient": "the critic's gradient norm is nan at step 5", "weight": "the critic's loss is nan at step 6"}
    said["moment"] = "the generator's loss is nan at step 6"
    assert str(caught.value).startswith(said[where])
    assert f", expected a finite one; the last checkpoint is {kept[-1]}. Lower game.lr" in str(caught.value)
    assert all(t.isfinite().all() for t in read_checkpoint(kept[-1])[0].values() if t.is_floating_point())
    assert recipes.load(run).task.sample(2).isfinite().all()
    assert trained(tmp_path, resume=True).run.step == 6


@pytest.mark.parametrize("where", ["average", "moment"])
def test_an_update_that_overflows_is_not_saved(tmp_path, monkeypatch, where):
    """The losses and gradients of its step were finite."""
    plain = Run.__next__

    def step_and_break(run):
        taken = plain(run)
        if run.step == 6:
            p = next(run.task.generators.parameters())
            moment = run.game.generator.optimizer.state[p]["exp_avg_sq"]
            {"average": next(run.task.averages.parameters()).data, "moment": moment}[where][0] = torch.inf
        return taken

    monkeypatch.setattr(Run, "__next__", step_and_break)
    name = {"average": "task.averages", "moment": "optimizer.generator"}[where]
    with pytest.raises(
        UserError, match=rf"{name}\..* is not finite after step 6, expected numbers; there is no checkpoint"
    ):
        trained(tmp_path, "run.save_every=100")


@pytest.mark.parametrize("game", ["consensus", "symplectic", "competitive", "runge-kutta:4", "drift-correction"])
def test_the_defaults_of_methods_that_step_by_far_stay_finite(game, tmp_path):
    changes = [f"game.kind={game}", "run.steps=4", "run.batch_size=64", "run.device=cpu"]
    assert call("train", "digits-dcgan", "--out", tmp_path / "run", *changes)[::2] == (0, "")
