"""`fastgan play`: films that open, names that are refused, and Ctrl-C."""

import os
import re
import signal

import pytest
from PIL import Image
from typer.testing import CliRunner

from fastgan.cli import app
from fastgan.toys.dirac_recipes import DIRAC_RECIPES
from fastgan.toys.plane_recipes import PLANE_RECIPES
from fastgan.train.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def no_display(monkeypatch):
    from matplotlib import pyplot

    pyplot.switch_backend("agg")


def call(*arguments):
    result = CliRunner().invoke(app, ["play", *map(str, arguments)])
    return result.exit_code, result.output


def test_a_film_of_dirac(tmp_path):
    code, told = call("dirac", "--method", "non-saturating-alternating", "--frames", 3, "--out", tmp_path / "d.gif")
    assert code == 0
    assert told.startswith("circles, at a distance of 0.18 from the equilibrium")
    with Image.open(tmp_path / "d.gif") as film:
        assert film.n_frames == 3
        pictures = []
        for frame in range(3):
            film.seek(frame)
            pictures.append(film.convert("RGB").tobytes())
    assert len(set(pictures)) == 3


@pytest.mark.parametrize("toy", ["ring", "grid"])
def test_a_film_of_points_with_another_optimiser(toy, tmp_path):
    options = ("--game", "optimistic", "--lr", 1e-4, "--steps", 4, "--frames", 2, "--out", tmp_path / "film.gif")
    code, told = call(toy, "--method", "packing", *options)
    assert code == 0
    assert "of high quality at step 4" in told
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 2


def test_ctrl_c_ends_the_film_there(tmp_path, monkeypatch):
    take = Run.__next__

    def interrupted(self):
        taken = take(self)
        if taken.number == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return taken

    monkeypatch.setattr(Run, "__next__", interrupted)
    code, told = call("ring", "--method", "plain", "--steps", 9, "--frames", 10, "--out", tmp_path / "film.gif")
    assert code == 0
    assert "at step 2" in told
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("chess",), "TOY is 'chess', expected one of dirac, ring, grid"),
        (("dirac", "--method", "plain", "--out", "x.gif"), "--method is 'plain', expected one of minimax-simultaneous"),
        (("ring", "--method", "r1", "--out", "x.gif"), "--method is 'r1', expected one of plain, unrolled-5-steps"),
        (("ring", "--out", "x.png"), "--out is 'x.png', expected a file that ends in .gif"),
        (("ring",), "there is no display to draw on, expected --out film.gif"),
        (("dirac", "--loss", "bets", "--out", "x.gif"), "--loss is 'bets', expected one of nonsaturating"),
        (("dirac", "--game", "sgd", "--out", "x.gif"), "--game is 'sgd', expected one of alternating"),
        (("dirac", "--penalty", "r3", "--out", "x.gif"), "--penalty is 'r3': 'r3' is not a penalty"),
        (("dirac", "--out", "/nowhere/x.gif"), "--out is '/nowhere/x.gif', which cannot be written"),
        (
            ("dirac", "--game", "alternating:0"),
            "--game is 'alternating:0': Alternating: critic_steps is 0.0,",
        ),
        (("ring", "--game", "lookahead:5:2"), "game.kind is 'lookahead:5:2': Lookahead: alpha is 2.0, expected"),
        (("grid", "--game", "runge-kutta:3"), "game.kind is 'runge-kutta:3': RungeKutta: order is 3.0, expe"),
        (
            ("dirac", "--loss", "mmd"),
            "--loss is 'mmd': mmd: real_features has shape [1, 1], expected at least",
        ),
        (("dirac", "--loss", "began"), "--loss is 'began', expected an objective of logits or of features: the critic"),
        (
            ("ring", "--loss", "ebgan:1"),
            "task.loss is 'ebgan:1', expected an objective of logits or of features: the cr",
        ),
        (
            ("ring", "--loss", "feature_matching:hinge"),
            "task.loss is 'feature_matching:hinge', expected an objective of logits or of features: the critic here",
        ),
        (
            ("ring", "--method", "unrolled-5-steps", "--game", "consensus"),
            "game.unroll is 5, expected 0: consensus differentiates whole losses twice",
        ),
        (
            ("ring", "--method", "unrolled-5-steps", "--game", "runge-kutta:2:1"),
            "game.unroll is 5, expected 0: runge-kutta:2:1 differentiates whole losses twice",
        ),
        (
            ("ring", "--method", "unrolled-5-steps", "--penalty", "r1:1"),
            "game.unroll differentiates the critic's steps; expected no task.penalty, which would take third",
        ),
        (("dirac", "--lr", "nan"), "--lr is nan, expected a number above 0"),
        (("ring", "--lr", "0"), "game.lr is 0.0, expected a number, above 0"),
        (("ring", "--lr", "-1"), "game.lr is -1.0, expected a number, above 0"),
        (("ring", "--lr", "inf"), "game.lr is 'inf', expected a number"),
        (("dirac", "--steps", "0"), "--steps is 0, expected at least 1"),
        (("dirac", "--frames", "1"), "--frames is 1, expected 2 to 1000"),
        (("dirac", "--frames", "1001"), "--frames is 1001, expected 2 to 1000"),
        (("dirac", "--seed", "-1"), "--seed is -1, expected 0 to 2^63 - 1"),
        (("ring", "--seed", str(2**63)), "--seed is 9223372036854775808, expected 0 to 2^63 - 1"),
    ],
)
def test_what_is_refused(arguments, message):
    code, told = call(*arguments)
    assert code == 2
    assert told.startswith("error: ")
    assert message in told
    assert told.count("\n") == 1


def test_a_film_of_what_leaves_every_bound(tmp_path):
    quick = ("--steps", 4, "--frames", 2, "--out", tmp_path / "film.gif")
    code, told = call("dirac", "--method", "minimax-simultaneous", "--game", "competitive", "--lr", 1e200, *quick)
    assert code == 0
    assert re.match(r"diverges, no longer finite at step [1-4]\n", told)
    code, told = call("ring", "--method", "plain", "--lr", 1e30, *quick)
    assert code == 0
    assert told.startswith("diverges: the samples are no longer finite at step 4\n")


def test_names_are_unambiguous():
    from fastgan.cli.films import methods

    assert len(methods("dirac")) == len(DIRAC_RECIPES)
    assert len(methods("ring")) == len(PLANE_RECIPES)
