"""Runs that diverge stop, say where, and keep what was good."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fastgan.errors import UserError
from fastgan.train import load_generator, resume, train
from fastgan.train.checkpoint import list_checkpoints, read_checkpoint
from fastgan.train.guard import EVERY, PATIENCE, DivergedError, Guard, check_tensors, gradient_norm
from fastgan.train.step import train_step
from tests.command_line import call


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
        guard.record(step, game, dict(zip(("critic", "generator"), map(torch.tensor, losses), strict=True)))


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
    tensors = {"generator.weight": torch.ones(3), "order.read": torch.tensor(3), "critic.bias": torch.ones(2)}
    check_tensors(7, tensors)
    tensors["critic.bias"][1] = torch.inf
    with pytest.raises(DivergedError, match=r"critic\.bias is not finite after step 7, expected numbers"):
        check_tensors(7, tensors)


# At a hundred times the preset's learning rate, which is Adam's.
@pytest.mark.parametrize(("optimizer", "steps"), [("runge-kutta:4", 3), ("drift-correction", 4)])
def test_a_run_that_explodes_says_so_and_saves_nothing(tmp_path, optimizer, steps):
    options = ["--optimizer", optimizer, "--lr", 0.04, "--lr-critic", 0.04, "--steps", steps, "--batch-size", 64]
    code, _, err = call("train", "--out", tmp_path / "run", *options, "--device", "cpu")
    assert code == 2
    assert err.startswith(("error: the critic's", "error: the generator's"))
    assert f" at step {err.split(' at step ')[1][0]}, expected a finite one; there is no checkpoint. Lower --lr" in err
    assert not list_checkpoints(tmp_path / "run")
    assert not list((tmp_path / "run" / "samples").iterdir())


@pytest.mark.parametrize("where", ["gradient", "weight"])
def test_the_last_good_checkpoint_stays(tiny, monkeypatch, where):
    def step_and_break(state, *rest):
        taken = train_step(state, *rest)
        p = next(state.critic.parameters())
        if state.step == 5:
            (p.grad if where == "gradient" else p.data)[0] = torch.nan
        return taken

    with monkeypatch.context() as patch:
        patch.setattr("fastgan.train.loop.train_step", step_and_break)
        with pytest.raises(UserError) as caught:
            train(tiny(steps=6, save_every=2, log_every=100), quiet=True)
    run = Path(tiny().out)
    kept = list_checkpoints(run)
    assert [path.stem for path in kept] == ["step-00000002", "step-00000004"]
    said = (
        "the critic's gradient norm is nan at step 5" if where == "gradient" else "the critic's loss is nan at step 6"
    )
    assert str(caught.value).startswith(f"{said}, expected a finite one; the last checkpoint is {kept[-1]}. Lower --lr")
    assert all(t.isfinite().all() for t in read_checkpoint(kept[-1])[0].values() if t.is_floating_point())
    assert load_generator(run).sample(2).isfinite().all()
    assert resume(run, quiet=True).step == 6


def test_an_update_that_overflows_is_not_saved(tiny, monkeypatch):
    """The losses and gradients of its step were finite."""

    def step_and_break(state, *rest):
        taken = train_step(state, *rest)
        if state.step == 6:
            next(state.average.network.parameters()).data[0] = torch.inf
        return taken

    monkeypatch.setattr("fastgan.train.loop.train_step", step_and_break)
    with pytest.raises(
        UserError, match=r"average\..* is not finite after step 6, expected numbers; there is no checkpoint"
    ):
        train(tiny(), quiet=True)


@pytest.mark.parametrize("optimizer", ["consensus", "symplectic", "competitive", "runge-kutta:4", "drift-correction"])
def test_the_defaults_of_methods_that_step_by_far_stay_finite(optimizer, tmp_path):
    options = ["--optimizer", optimizer, "--steps", 4, "--batch-size", 64, "--device", "cpu"]
    assert call("train", "--out", tmp_path / "run", *options)[::2] == (0, "")
