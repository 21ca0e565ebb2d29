"""The command line: through typer's runner, and once as a real process that is interrupted."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from PIL import Image

import fastgan
from fastgan import recipes
from fastgan.losses import LOSSES
from tests.command_line import FAST, assert_refused, call

pytestmark = pytest.mark.usefixtures("one_thread_in_processes")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of three steps."""
    recipe = recipes.read("digits-dcgan", ["run.steps=3", *FAST])
    return recipes.start(recipe, tmp_path_factory.mktemp("cli") / "run", quiet=True).folder


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ([], ["train", "recipes", "sample", "evaluate", "features", "bench", "info", "--version"]),
        (["train"], ["RECIPE", "SECTION.KEY=VALUE", "--data", "--out", "--config", "--task", "--resume", "--from"]),
        (["recipes"], ["show"]),
        (
            ["sample"],
            ["--n", "--seed", "--out", "CHECKPOINT", "--neighbours", "--interpolation", "spherical or linear"],
        ),
        (["features"], ["--data", "--n", "--out", "CHECKPOINT", "penultimate"]),
        (["evaluate"], ["--n", "--out", "CHECKPOINT", "16x16"]),
        (["train"], ["digits", "textures", "folder"]),
        (["bench"], ["benchmarks"]),
        (["info"], ["--cuda"]),
    ],
)
def test_help(command, says):
    code, out, _ = call(*command, "--help")
    assert code == 0
    assert all(word.lower() in out.lower() for word in says)


def test_train_resume_sample(tmp_path):
    run, png = tmp_path / "run", tmp_path / "grid.png"
    code, out, _ = call("train", "digits-dcgan", "--out", run, "--data", "digits", "run.steps=2", *FAST)
    assert code == 0
    assert f"sample from it with: fastgan sample {run}" in out
    code, out, _ = call("train", "--resume", "--out", run, "run.steps=6", "run.log_every=3")
    assert code == 0
    assert "step 6/6  critic " in out  # plain lines, as this is no terminal
    assert "images/s" in out

    code, out, _ = call("sample", run, "--n", 6, "--seed", 3, "--out", png)
    assert (code, out) == (0, f"wrote 6 images to {png}\n")
    with Image.open(png) as picture:
        assert picture.size == (3 * 68 + 4, 2 * 68 + 4)
    first = png.read_bytes()
    call("sample", run / "checkpoints" / "step-00000006.safetensors", "--n", 6, "--seed", 3, "--out", png)
    assert png.read_bytes() == first


def test_evaluate_writes_what_it_prints(run, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("fastgan.metrics.classifier.EPOCHS", 2)
    code, out, _ = call("evaluate", run, "--n", 900, "--out", tmp_path / "report.json")
    assert code == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["step"], report["n"], report["all"]["other"]) == (3, 900, 900)
    assert report["all"]["real"] == 1797
    assert f"{report['test_accuracy']:.1%} of the held-out digits right" in out
    for row in ("all", "matched", "floor"):
        assert f"{report[row]['frechet']:.3f}" in out
        assert f"{report[row]['kernel']:.4f} ± {report[row]['kernel_error']:.4f}" in out
    rows = {cells[1]: cells[3::2] for cells in map(str.split, out.splitlines()) if "│" in cells}
    for name in ("precision", "recall", "coverage"):
        assert rows[name] == [f"{report[of][name]:.1%}" for of in ("scores", "data_scores")]
    assert f"{report['scores']['inception_score']:.2f} ± {report['scores']['inception_score_std']:.2f}" in out
    assert f"{report['scores']['density']:.3f}" in out
    assert f"{report['samples']['covered']} of 10" in out
    assert "Covered: at least 1% of the confident samples" in " ".join(out.split())


def test_evaluate_needs_enough_digits(run):
    assert_refused(call("evaluate", run, "--n", 897), "--n is 897, expected at least 898, half of the digits")


def folder_of_noise(path, count, side):
    path.mkdir()
    for index in range(count):
        Image.effect_noise((side, side), 64).save(path / f"{index}.png")
    return path


# A recipe of 1x16x16 images.
OF_16 = ["digits-resnet", "data.resolution=16", "task.generator.width=4", "task.critic.width=4"]


@pytest.mark.parametrize("data", ["digits", "textures", "folder"])
def test_evaluate_compares_patches(tmp_path, data):
    folder = folder_of_noise(tmp_path / "pictures", 41, 16)
    chosen = folder if data == "folder" else data
    call("train", *OF_16, "--data", chosen, "--out", tmp_path / "run", "run.steps=1", *FAST)
    code, out, _ = call("evaluate", tmp_path / "run", "--n", 60, "--out", tmp_path / "report.json")
    assert code == 0
    report = json.loads((tmp_path / "report.json").read_text())
    compared = 20 if data == "folder" else 30
    assert (report["step"], report["n"], report["images"], list(report["levels"])) == (1, 60, compared, ["16x16"])
    assert f"patches of {compared} images and of as many others" in " ".join(out.split())
    assert report["levels"]["16x16"] == report["mean"]
    for column in ("samples", "floor"):
        assert f"{report['mean'][column]:.4f} ± {report['mean'][column + '_std']:.4f}" in out
    assert report["mean"]["samples"] > 2 * report["mean"]["floor"]


def test_evaluate_refuses_what_it_cannot_compare(tmp_path):
    small, pictures = folder_of_noise(tmp_path / "small", 16, 8), folder_of_noise(tmp_path / "pictures", 16, 16)
    call("train", "digits-dcgan", "--data", small, "--out", tmp_path / "small-run", "run.steps=1", *FAST)
    assert_refused(
        call("evaluate", tmp_path / "small-run"),
        f"CHECKPOINT was trained on '{small}' and makes images of 1x8x8; "
        "expected the digits at 1x8x8, or at least 16x16",
    )
    call("train", *OF_16, "--data", pictures, "--out", tmp_path / "run", "run.steps=1", *FAST)
    for index in range(1, 16):
        (pictures / f"{index}.png").unlink()
    assert_refused(
        call("evaluate", tmp_path / "run"),
        f"CHECKPOINT was trained on '{pictures}', whose files differ in name, size or content from those; expected the "
        "same ones",
    )
    alone = ["run.batch_size=1", "run.steps=1", "run.device=cpu"]
    call("train", *OF_16, "--data", pictures, "--out", tmp_path / "alone", *alone)
    assert_refused(
        call("evaluate", tmp_path / "alone"),
        f"CHECKPOINT was trained on '{pictures}', a single image; expected at least 2 to compare",
    )
    pictures.rename(tmp_path / "elsewhere")
    assert_refused(
        call("evaluate", tmp_path / "run"),
        f"CHECKPOINT was trained on data that cannot be read again: --data is '{pictures}', which does not "
        "exist; expected 'digits', 'stacked-digits', 'textures' or a folder of images",
    )


def test_bad_input_is_one_line_and_status_2(run, tmp_path):
    new = ["digits-dcgan", "--out", tmp_path / "new"]
    missing = tmp_path / "missing"
    assert_refused(
        call("train", *new, "--data", missing),
        f"--data is '{missing}', which does not exist; expected 'digits', 'stacked-digits', 'textures' or a folder of "
        "images",
    )
    names = ", ".join(recipes.names())
    for recipe, expected in (("biggan", "one of"), ("digit-dcgan", "'digits-dcgan', or another of")):
        assert_refused(
            call("train", recipe, "--out", tmp_path / "new"),
            f"RECIPE is {recipe!r}, expected {expected} {names}, or a .yaml file",
        )
    for change, message in (
        ("task.loss=hinged", f"task.loss is 'hinged', expected 'hinge', or another of {', '.join(LOSSES)}"),
        (
            "task.loss=fgan:alpha:one",
            "task.loss is 'fgan:alpha:one', expected a number after the divergence, as in fgan:alpha:0.3",
        ),
        ("task.loss=fgan:alpha:1", "task.loss is alpha: alpha is 1.0, expected a number other than 0 and 1"),
        (
            "task.penalty=r1:10,r3:10",
            "task.penalty is 'r1:10,r3:10': 'r3:10' is not a penalty, expected one of r1, r2, wgan-gp, "
            "dragan, as in r1:10,r2:10",
        ),
        ("task.penalty=r1:ten", "task.penalty is 'r1:ten': 'r1:ten' has the weight 'ten', expected a number >= 0"),
        ("run.batch_size=0", "run.batch_size is 0, expected greater than or equal to 1"),
        ("run.batch_size=5000", "run.batch_size is 5000, expected 1 to 1797, the number of samples in digits"),
        ("run.steps=-3", "run.steps is -3, expected greater than or equal to 1"),
        ("data.resolution=0", "data.resolution is 0, expected a size such as 64, or height and width as in 64x32, 1 "
                              "to 16384"),
        ("data.channels=2", "data.channels is 2, expected 1 or 3"),
        ("game.lr=0", "game.lr is 0, expected a number, above 0"),
        ("game.beta1=1", "game.beta1 is 1, expected less than 1"),
        ("run.ema=-0.1", "run.ema is -0.1, expected a number, at least 0 and below 1"),
        ("steps=3", "'steps=3' is no setting, expected section.key=value, as in game.lr=1e-3"),
        ("runs.steps=3", "runs.steps is no setting, expected a section 'run', or another of about, task, data, game, "
                         "run"),
        ("task.unknown=3", "task.unknown is no setting, expected"),
    ):  # fmt: skip
        code, out, err = call("train", *new, change)
        assert (code, out, err.count("\n")) == (2, "", 1), change
        assert err.startswith(f"error: {message}"), change
        assert message.endswith(", expected") or err == f"error: {message}\n", change
    assert_refused(
        call("train", "digits-dcgan", "--out", run),
        f"--out is '{run}', which holds a run at step 3; expected a new folder, or --resume as well",
    )
    assert_refused(
        call("train", "--out", missing, "--resume"),
        f"--out is '{missing}', which holds no recipe.yaml; expected the folder of a run",
    )
    for arguments, message in (
        (["--out", missing], f"RECIPE is missing, expected one of {names}, --config or --task"),
        (["digits-dcgan", "--resume", "--out", run], "RECIPE is 'digits-dcgan', expected none beside --resume: the run "
                                                      "has its own"),
        (["digits-dcgan", "--out", missing, "--from", "x"], "--from is 'x', expected --resume beside it"),
        (["digits-dcgan", "--config", "x.yaml", "--out", missing], "RECIPE is 'digits-dcgan', expected none beside "
                                                                   "--config"),
        (["--config", "x.txt", "--out", missing], "--config is 'x.txt', expected a file that ends in .yaml"),
        (["--config", "x.yaml", "--out", missing], "the recipe 'x.yaml' cannot be read: No such file or directory"),
        (["digits-dcgan", "--task", "a:b", "--out", missing], "RECIPE is 'digits-dcgan', expected none beside --task"),
    ):  # fmt: skip
        assert_refused(call("train", *arguments), message)
    assert not (tmp_path / "new").exists()
    assert_refused(
        call("sample", missing),
        f"CHECKPOINT is '{missing}', which does not exist; expected a run's folder or a checkpoint",
    )
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not a checkpoint")
    code, out, err = call("evaluate", broken)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: {broken} is not a whole safetensors file (")
    assert_refused(
        call("sample", run, "--out", broken / "grid.png"),
        f"--out is '{broken / 'grid.png'}', which cannot be written: Not a directory",
    )


@pytest.mark.parametrize(
    "arguments", [["sample", "x", "--n", "0"], ["train", "digits-dcgan"], ["train", "--steps", "many"], ["fly"]]
)
def test_usage_errors_are_status_2(arguments):
    code, _, err = call(*arguments)
    assert code == 2
    assert "Traceback" not in err


def test_help_needs_no_training_library_and_a_command_names_the_missing_one(tmp_path):
    """With only torch, typer and rich installed, the command line must start."""
    code = (
        "import sys\n"
        "for name in 'safetensors', 'PIL', 'sklearn', 'scipy', 'tensorboard', 'torchmetrics', 'yaml':\n"
        "    sys.modules[name] = None\n"
        "from fastgan.cli import main\n"
        f"for sys.argv in ['fastgan', 'train', '--help'], ['fastgan', 'sample', {str(tmp_path)!r}]:\n"
        "    try:\n"
        "        main()\n"
        "    except SystemExit as end:\n"
        "        print('status', end.code)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--resume" in result.stdout
    assert [line for line in result.stdout.splitlines() if line.startswith("status")] == ["status 0", "status 2"]
    named = r"error: this command needs (safetensors|PIL|sklearn|tensorboard|yaml): pip install "
    assert re.fullmatch(named + r"'fastgan\[train\]'\n", result.stderr)


def test_interrupted_process_saves_and_resumes(tmp_path):
    """A real Ctrl-C in a real process: status 130, a line that says how to go on, and a run that does."""
    run = tmp_path / "run"
    command = [sys.executable, "-m", "fastgan", "train", "--out", str(run)]
    new = ["digits-dcgan", "run.log_every=1", "run.steps=100000", *FAST]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [*command, *new], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    said = [process.stdout.readline() for _ in range(2)]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert said[0] == "digits: 1797 images of 1x8x8, 10 classes\n", err
    assert said[1].startswith("step 1/100000"), err
    assert process.returncode == 130
    assert err == ""
    *_, saved, last = out.splitlines()
    assert saved.startswith(f"saved {run}/checkpoints/step-")
    step = int(last.removeprefix("stopped at step ").split(";")[0])
    assert last == f"stopped at step {step}; continue with: fastgan train --resume --out {run}"

    again = subprocess.run(
        [*command, "--resume", f"run.steps={step + 2}"], capture_output=True, text=True, check=False, timeout=120
    )
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[1].startswith(f"step {step + 1}/{step + 2}")
    logged = [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert logged == list(range(1, step + 3))


def test_the_version():
    assert call("--version") == (0, f"{fastgan.__version__}\n", "")


def test_a_recipe_is_shown_with_every_key_explained(tmp_path):
    for name in recipes.names():
        code, out, _ = call("recipes", "show", name)
        assert code == 0
        lines = [line for line in out.splitlines() if line]
        # Numbers of a network are explained by its class, and those of a schedule by the page on training.
        own = [line for line in lines if not re.match(r"    (?!kind)", line)]
        assert [line for line in own if "  # " not in line] == []
        (tmp_path / "mine.yaml").write_text(out)
        assert recipes.read(tmp_path / "mine.yaml").written() == recipes.read(name).written()
    code, out, _ = call("recipes")
    assert [line.split()[0] for line in out.splitlines()] == recipes.names()


def test_help_fits_a_screen():
    for command in ("train", "recipes", "sample", "play", "evaluate", "features", "bench", "info"):
        assert len(call(command, "--help")[1].splitlines()) <= 50, command
