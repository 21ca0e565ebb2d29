"""Settings of training from the command line, each in a run of a step or two."""

import json
import re

import pytest
import yaml
from PIL import Image

from fastgan.tasks.conditioning import CONDITIONINGS
from tests.command_line import FAST, assert_refused, call

pytestmark = pytest.mark.usefixtures("one_thread_in_processes")


def written(run):
    return yaml.safe_load((run / "recipe.yaml").read_text())


def logged(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_train_with_a_loss_and_a_penalty(tmp_path):
    run = tmp_path / "run"
    objective = ["task.loss=hinge", "task.penalty=r1:10,r2:10"]
    code, out, _ = call("train", "digits-resnet", "--out", run, *objective, "run.steps=2", "run.log_every=1", *FAST)
    assert code == 0
    assert out.startswith("digits: 1797 images of 1x8x8, 10 classes\ngradient of the penalties: one pass\n")
    assert (written(run)["task"]["loss"], written(run)["task"]["penalty"]) == ("hinge", "r1:10,r2:10")
    assert [line["gradient_norm_r2"] > 0 < line["penalty_r1"] for line in logged(run)] == [True, True]
    assert_refused_to_resume(
        call("train", "--resume", "--out", run, "run.steps=4", "task.penalty=r1:5"),
        "task.penalty is 'r1:5', but the run was started with 'r1:10,r2:10'; "
        "expected the same, or a new --out without --resume",
    )


def assert_refused_to_resume(result, message):
    code, _, err = result
    assert (code, err) == (2, f"error: {message}\n")


def test_train_with_packs(tmp_path):
    run = tmp_path / "run"
    code, out, _ = call("train", "digits-resnet", "--out", run, "task.pack=2", "run.steps=1", *FAST)
    assert code == 0
    assert "\ngradient of the penalties: one pass\n" in out
    assert written(run)["task"]["pack"] == 2


def test_what_makes_no_sense_is_refused(tmp_path):
    out = ("--out", tmp_path / "new")
    for arguments, message in (
        (
            ["stylegan2-small", "data.resolution=8", "task.spectral_norm=true"],
            "task.spectral_norm is True, expected none for stylegan2: its critic's layers divide their weights by the "
            "root of their inputs' number",
        ),
        (
            ["digits-dcgan", "task.loss=mmd", "run.batch_size=1"],
            "run.batch_size is 1, expected at least 2: mmd compares samples with each other",
        ),
        (
            ["digits-dcgan", "task.penalty_every=16"],
            "task.penalty_every is 16, expected 1 without task.penalty, of which it is the interval",
        ),
        (
            ["digits-dcgan", "task.pack=3"],
            "run.batch_size is 64, expected a multiple of 3, the samples in a pack",
        ),
        (
            ["digits-resnet", "game.unroll=2"],
            "game.unroll differentiates the critic's steps; expected no task.penalty, which would take third "
            "derivatives or is no part of them",
        ),
    ):
        assert_refused(call("train", *arguments, *out), message)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("task.instance_noise={from: 0.5, to: 0, over: 2}", "instance_noise"),
        ("task.orthogonal=1e-4", "penalty_orthogonal"),
        ("game.unroll=2", "generator"),
        ("game.clip=0.5", "critic"),
        ("run.precision=bfloat16", "critic"),
        ("run.chunks=4", "critic"),
    ],
)
def test_train_with(change, named, tmp_path):
    run = tmp_path / "run"
    code, _, _ = call("train", "digits-dcgan", "--out", run, change, "run.steps=2", "run.log_every=1", *FAST)
    assert code == 0
    lines = logged(run)
    assert all(line[named] > 0 for line in lines)
    if named == "instance_noise":
        assert [line[named] for line in lines] == [0.5, 0.25]
    section, key = change.split("=")[0].split(".")
    assert key in written(run)[section]


def test_train_a_recipe_of_one_s_own(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("""
task:
  kind: gan
  generator: {kind: dcgan, latent_dim: 8, width: 4}
  critic: {kind: dcgan-batch-norm, width: 4}
data: {image: digits, resolution: 16, channels: 3}
game: {lr: 2e-4}
run: {steps: 2, batch_size: 8, device: cpu}
""")
    assert call("train", "--config", mine, "--out", tmp_path / "run", "game.lr_critic=1e-4")[0] == 0
    game = written(tmp_path / "run")["game"]
    assert (game["lr"], game["lr_critic"]) == (2e-4, 1e-4)
    mine.write_text("task: {kind: gan}\nrun: [1, 2")
    code, _, err = call("train", "--config", mine, "--out", tmp_path / "new")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"error: the recipe '{mine}' is no YAML: while parsing")
    mine.write_text("3")
    assert_refused(
        call("train", "--config", mine, "--out", tmp_path / "new"),
        f"the recipe '{mine}' holds int, expected the sections of a recipe",
    )
    mine.write_text("task: {kind: gan}\nrun: {}\ndata: {image: digits, resolution: 8, channels: 1}")
    assert_refused(
        call("train", "--config", mine, "--out", tmp_path / "new"),
        "task.generator is missing; task.critic is missing; run.steps is missing",
    )


def test_cyclegan_from_the_command_line(tmp_path):
    run, png = tmp_path / "run", tmp_path / "cycle.png"
    small = ["data.resolution=16", "task.generator.width=4", "task.generator.blocks=1", "task.critic.width=4",
             "task.critic.halvings=1", "run.batch_size=2", "run.device=cpu"]  # fmt: skip
    for name, level in (("dark", 30), ("bright", 220)):
        (tmp_path / name).mkdir()
        for index in range(5):
            Image.new("RGB", (20, 20), (level + index,) * 3).save(tmp_path / name / f"{index}.png")
    sets = [f"data.a={tmp_path / 'dark'}", f"data.b={tmp_path / 'bright'}"]
    code, out, _ = call("train", "cycle-gan-small", "--out", run, *sets, *small, "run.steps=2")
    assert code == 0
    assert "dark: 5 images of 3x16x16" in out
    assert call("sample", run, "--out", png)[:2] == (0, f"wrote {png}\n")
    with Image.open(png) as picture:
        assert picture.size == (5 * 66 + 2, 6 * 66 + 2)
    assert_refused(
        call("sample", run, "--psi", 0.5),
        "CHECKPOINT holds a task that makes no images of noise; expected --out and --seed alone",
    )
    code, out, _ = call("evaluate", run, "--n", 4, "--out", tmp_path / "report.json")
    assert code == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert f"{report['cycle_error_a']:.4g}" in out
    assert_refused(
        call("features", run), "CHECKPOINT holds a task without a critic of images alone, expected a GAN of images"
    )
    assert_refused(
        call("train", "cycle-gan-small", "--out", tmp_path / "new", "--data", "digits"),
        "data.image is no setting, expected one of resolution, channels, a, b",
    )
    assert call("train", "--resume", "--out", run, "run.steps=3")[0] == 0


def test_stylegan2_from_the_command_line(tmp_path):
    run = tmp_path / "run"
    small = ["stylegan2-small", "--data", "digits", "data.resolution=16", "data.channels=1"]
    lazy = ["task.penalty=r1:1", "task.penalty_every=2", "task.path_length=1", "task.path_length_every=2"]
    code, out, _ = call("train", "--out", run, *small, *lazy, "run.steps=2", "run.batch_size=4", "run.device=cpu")
    assert code == 0
    assert "\ngradient of the penalties: double backward, because " in out
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
        assert name in " ".join(call("recipes", "show", "digits-dcgan")[1].split())
    assert call("train", "digits-dcgan", "--out", run, "task.conditional=projection", "run.steps=2", *FAST)[0] == 0
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
