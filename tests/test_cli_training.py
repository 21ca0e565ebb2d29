"""The command line's options of training, each in a run of a step or two."""

import json
import re

import pytest
from PIL import Image

from fastgan.train.conditioning import CONDITIONINGS
from tests.command_line import FAST, assert_refused, call

pytestmark = pytest.mark.usefixtures("one_thread_in_processes")


def test_train_with_a_loss_and_a_penalty(tmp_path):
    run = tmp_path / "run"
    objective = ["--preset", "digits-resnet", "--loss", "hinge", "--penalty", "r1:10,r2:10"]
    code, out, _ = call("train", "--out", run, *objective, "--steps", 2, "--log-every", 1, *FAST)
    assert code == 0
    assert out.startswith("digits: 1797 images of 1x8x8, 10 classes\ngradient of r1:10,r2:10: one pass\n")
    config = json.loads((run / "config.json").read_text())
    assert (config["loss"], config["penalty"]) == ("hinge", "r1:10,r2:10")
    logged = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["gradient_norm_r2"] > 0 < line["penalty_r1"] for line in logged] == [True, True]
    assert_refused(
        call("train", "--out", run, "--resume", "--steps", 4, "--penalty", "r1:5"),
        "--penalty is 'r1:5', but the run was started with 'r1:10,r2:10'; "
        "expected the same, or a new --out without --resume",
    )


def test_train_with_packs(tmp_path):
    run = tmp_path / "run"
    code, out, _ = call("train", "--out", run, "--preset", "digits-resnet", "--pack", 2, "--steps", 1, *FAST)
    assert code == 0
    assert "\ngradient of r1:1,r2:1: one pass\n" in out
    assert json.loads((run / "config.json").read_text())["pack"] == 2
    assert_refused(
        call("train", "--out", tmp_path / "new", "--pack", 3),
        "--pack is 3, expected a divisor of --batch-size, which is 64",
    )


def test_what_makes_no_sense_is_refused(tmp_path):
    new = ("train", "--out", tmp_path / "new")
    assert_refused(
        call(*new, "--preset", "stylegan2-small", "--spectral-norm"),
        "--spectral-norm is True, expected False: the layers of stylegan2-small divide their weights by the root of "
        "their inputs' number, which would leave little of a norm of 1",
    )
    assert_refused(
        call(*new, "--loss", "mmd", "--batch-size", 1),
        "--batch-size is 1, expected at least 2, as mmd compares samples with each other",
    )
    assert_refused(
        call(*new, "--penalty-every", 16),
        "--penalty-every is 16, expected 1 without --penalty, of which it is the interval",
    )
    assert_refused(
        call(*new, "--optimizer", "runge-kutta", "--beta1", 0),
        "--beta1 is 0.0, expected 0.5, the preset's: under runge-kutta the players step by SGD, not by Adam",
    )
    assert not (tmp_path / "new").exists()


def test_train_with_instance_noise(tmp_path):
    run = tmp_path / "run"
    noise = ["--instance-noise", 0.5, "--preset", "digits-resnet"]
    code, out, _ = call("train", "--out", run, *noise, "--steps", 2, "--log-every", 1, *FAST)
    assert code == 0
    assert "\ngradient of r1:1,r2:1: one pass\n" in out
    assert json.loads((run / "config.json").read_text())["instance_noise_steps"] == 2
    logged = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["instance_noise"] for line in logged] == [0.5, 0.25]


def test_train_with_orthogonal_filters(tmp_path):
    run = tmp_path / "run"
    code, _, _ = call("train", "--out", run, "--orthogonal", 1e-4, "--steps", 1, "--log-every", 1, *FAST)
    assert code == 0
    assert json.loads((run / "log.jsonl").read_text())["penalty_orthogonal"] > 0


def test_train_unrolled(tmp_path):
    run = tmp_path / "run"
    code, _, _ = call("train", "--out", run, "--unroll", 2, "--steps", 1, *FAST)
    assert code == 0
    assert json.loads((run / "config.json").read_text())["unroll"] == 2
    assert_refused(
        call("train", "--out", tmp_path / "new", "--preset", "digits-resnet", "--unroll", 2),
        "--penalty is 'r1:1,r2:1', expected none: --unroll differentiates the critic's steps, for which a penalty "
        "would need third derivatives",
    )


def test_stylegan2_from_the_command_line(tmp_path):
    run = tmp_path / "run"
    small = ["--preset", "stylegan2-small", "--data", "digits", "--resolution", "16", "--channels", 1]
    lazy = ["--penalty", "r1:1", "--penalty-every", 2, "--path-length", 1, "--path-length-every", 2]
    code, out, _ = call("train", "--out", run, *small, *lazy, "--steps", 2, "--batch-size", 4, "--device", "cpu")
    assert code == 0
    assert "\ngradient of r1:1: double backward, because " in out
    for arguments, name, size in (
        (["--psi", "0.4,1", "--n", 3], "psi.png", (3 * 66 + 2, 2 * 66 + 2)),
        (["--mix", "--n", 2, "--psi", 0.7], "mixing.png", (3 * 66 + 2, 3 * 66 + 2)),
        (["--interpolate", "--n", 2], "strip.png", (8 * 66 + 2, 68)),
        (["--interpolate", "--n", 2], "tour.gif", (64, 64)),
        (["--interpolate", "--interpolation", "linear", "--n", 2], "straight.png", (8 * 66 + 2, 68)),
    ):
        code, out, _ = call("sample", run, *arguments, "--out", tmp_path / name)
        assert (code, out) == (0, f"wrote {tmp_path / name}\n")
        with Image.open(tmp_path / name) as picture:
            assert picture.size == size
    for psi in ("half", "0.5,nan"):
        assert_refused(
            call("sample", run, "--psi", psi),
            f"--psi is '{psi}', expected a number, or several with commas between them",
        )
    assert (tmp_path / "straight.png").read_bytes() != (tmp_path / "strip.png").read_bytes()
    assert_refused(
        call("sample", run, "--interpolation", "linear"),
        "--interpolation is 'linear', expected --interpolate beside it",
    )
    assert_refused(
        call("sample", run, "--mix", "--interpolate"),
        "--mix, --interpolate and --neighbours each make a picture of their own, at one --psi; expected one of them",
    )


def test_classes_from_the_command_line(tmp_path, monkeypatch):
    run, png = tmp_path / "run", tmp_path / "classes.png"
    for name in CONDITIONINGS:
        assert name in " ".join(call("train", "--help")[1].split())
    assert call("train", "--out", run, "--conditional", "projection", "--steps", 2, *FAST)[0] == 0
    assert call("sample", run, "--label", "3,0", "--n", 5, "--out", png)[:2] == (0, f"wrote {png}\n")
    with Image.open(png) as picture:
        assert picture.size == (5 * 68 + 4, 2 * 68 + 4)
    assert call("sample", run, "--label", "3", "--n", 5, "--out", png)[:2] == (0, f"wrote 5 images to {png}\n")
    assert call("sample", run, "--label", "3", "--interpolate", "--out", tmp_path / "tour.gif")[0] == 0
    assert_refused(
        call("sample", run, "--label", "ten"), "--label is 'ten', expected one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    )
    assert_refused(
        call("sample", run, "--label", "1,2", "--interpolate"),
        "--label is '1,2', expected one class beside --psi, --mix, --interpolate or --neighbours",
    )

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("fastgan.metrics.classifier.EPOCHS", 2)
    code, out, _ = call("evaluate", run, "--n", 900, "--out", tmp_path / "report.json")
    assert code == 0
    report = json.loads((tmp_path / "report.json").read_text())
    rows = [line.split()[1::2] for line in out[out.index("found to be the digit") :].splitlines() if "%" in line]
    for digit, row in enumerate(rows[:10]):
        assert row == [str(digit), *(f"{report[of]['per_class'][digit]:.1%}" for of in ("right", "data_right"))]
    assert rows[10] == ["all", *(f"{report[of]['share']:.1%}" for of in ("right", "data_right"))]
    score = re.search(
        r"accuracy score: (.*) of the held-out.* on 900 of the samples, (.*) by one", " ".join(out.split())
    )
    assert score.groups() == tuple(f"{report['taught'][of]:.1%}" for of in ("samples", "data"))
