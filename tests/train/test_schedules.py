"""Numbers that move: their values by hand, how they are written, and what moves in a run."""

import math

import pytest
import yaml

from fastgan.train import Schedule
from fastgan.train.schedules import real, value_at
from tests.train.steps import begun, recipe_of


@pytest.mark.parametrize(
    ("shape", "halfway"), [("linear", 5.5), ("cosine", 5.5), ("exponential", math.sqrt(10)), ("cosine", None)]
)
def test_values(shape, halfway):
    schedule = Schedule(10.0, 1.0, 8, shape)
    assert schedule.at(0) == 10
    assert schedule.at(8) == pytest.approx(1)
    assert schedule.at(1000) == pytest.approx(1)
    if halfway is not None:
        assert schedule.at(4) == pytest.approx(halfway)
    else:
        assert schedule.at(2) == pytest.approx(1 + 9 * (1 + math.cos(math.pi / 4)) / 2)
    later = Schedule(10.0, 1.0, 8, shape, after=5)
    assert [later.at(step) for step in (0, 5)] == [10, 10]
    assert [later.at(step + 5) for step in range(1, 9)] == [schedule.at(step) for step in range(1, 9)]


def test_constant_numbers():
    assert value_at(0.25, 7) == 0.25
    assert value_at(Schedule(1.0, 0.0, 4), 3) == 0.25


def test_yaml_s_text_is_a_number():
    """PyYAML reads 2e-4 as text."""
    assert isinstance(yaml.safe_load("2e-4"), str)
    assert real("2e-4") == 2e-4
    assert Schedule.read(yaml.safe_load("{from: 1e-3, to: 0, over: 5}")) == Schedule(1e-3, 0.0, 5)
    for wrong in ("fast", None, True, "nan", ".inf", [1]):
        with pytest.raises(ValueError, match="expected a number"):
            real(wrong)


def test_what_is_written_is_read_again():
    schedule = Schedule(0.5, 0.25, 9, "cosine", 3)
    assert Schedule.read(schedule.as_written()) == schedule


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"from": 1, "to": 0}, "expected the keys from, to, over"),
        ({"from": 1, "to": 0, "over": 3, "until": 4}, "expected the keys from, to, over"),
        ({"from": 1, "to": 0, "over": 0}, "over is 0, expected a whole number of at least 1"),
        ({"from": 1, "to": 0, "over": 2.5}, "over is 2.5, expected a whole number of at least 1"),
        ({"from": 1, "to": 0, "over": 3, "after": -1}, "after is -1, expected a whole number of at least 0"),
        ({"from": 1, "to": 0, "over": 3, "shape": "step"}, "shape is 'step', expected one of linear, cosine, exponen"),
        ({"from": 1, "to": 0, "over": 3, "shape": "exponential"}, "expected two numbers above 0: exponential"),
        ({"from": "a", "to": 0, "over": 3}, "expected a number"),
    ],
)
def test_what_is_no_schedule(written, message):
    with pytest.raises(ValueError, match=message):
        Schedule.read(written)


@pytest.mark.usefixtures("one_thread")
def test_learning_rates_and_decays_move_in_a_run():
    run = begun(recipe_of(
        "digits-resnet", lr="{from: 1e-3, to: 0, over: 4}", lr_critic="{from: 1e-2, to: 1e-4, over: 2, "
        "shape: exponential}", beta2="{from: 0.9, to: 0.99, over: 3}", ema="{from: 0, to: 0.5, over: 2}",
    ))  # fmt: skip
    seen = []
    for _ in range(5):
        next(run)
        groups = [player.optimizer.param_groups[0] for player in run.game.players]
        seen.append([groups[0]["lr"], groups[1]["lr"], groups[0]["betas"][1]])
    expected = [
        [1e-2, 1e-3, 0.9], [1e-3, 7.5e-4, 0.93], [1e-4, 5e-4, 0.96], [1e-4, 2.5e-4, 0.99], [1e-4, 0, 0.99]
    ]  # fmt: skip
    for found, truth in zip(seen, expected, strict=True):
        assert found == pytest.approx(truth)
