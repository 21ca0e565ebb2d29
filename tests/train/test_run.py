"""Runs: resumed bit for bit, stopped by signals, locked, and refused in one line."""

import errno
import fcntl
import json
import os
import signal
import threading

import pytest
import torch
import yaml
from PIL import Image

from fastgan import recipes
from fastgan.errors import UserError
from fastgan.models import DCGANCritic, DCGANGenerator
from fastgan.tasks import GAN
from fastgan.train import fit, session
from fastgan.train.checkpoint import list_checkpoints, read_checkpoint
from fastgan.train.run import Run
from tests.rotation import in_turn

SMALL = ("run.batch_size=16", "run.log_every=1", "run.sample_every=100", "run.save_every=100", "run.device=cpu")
SMALL_CYCLE = (
    "data.resolution=16", "task.generator.width=4", "task.generator.blocks=1", "task.critic.width=4",
    "task.critic.halvings=1", "run.batch_size=4", *SMALL[1:],
)  # fmt: skip


@pytest.fixture
def run_in(tmp_path):
    """Trains below tmp_path: `run_in("name", "run.steps=3")`, or goes on there with resume=True."""

    def make(name, *changes, recipe="digits-dcgan", resume=False, **options):
        small = SMALL_CYCLE if recipe.startswith("cycle") else SMALL
        chosen = recipes.read(recipe, [*small, "run.steps=6", *changes])
        return recipes.start(chosen, tmp_path / name, resume=resume, quiet=True, **options)

    return make


def log_of(outcome):
    return [json.loads(line) for line in (outcome.folder / "log.jsonl").read_text().splitlines()]


def different(one, other):
    """The names of tensors that are not the same, bit for bit, in the newest checkpoints."""
    first, second = (read_checkpoint(outcome.checkpoint)[0] for outcome in (one, other))
    assert first.keys() == second.keys()
    return [name for name in first if first[name].numpy().tobytes() != second[name].numpy().tobytes()]


@pytest.mark.parametrize(("half", "batch_size", "threads"), in_turn([(5, 16, 2), (4, 500, 1)], "resumed"))
def test_resumed_run_is_bitwise_the_uninterrupted_one(run_in, half, batch_size, threads):
    """Batches of 500 make an epoch of three steps, so that the second half starts inside the second epoch."""
    torch.set_num_threads(threads)
    size = f"run.batch_size={batch_size}"
    whole = run_in("whole", f"run.steps={2 * half}", size)
    run_in("parts", f"run.steps={half}", size)
    torch.rand(3)  # what the caller does in between has no part in it
    parts = run_in("parts", f"run.steps={2 * half}", size, resume=True)
    names = read_checkpoint(whole.checkpoint)[0].keys()
    for owner in ("task.generators", "task.critics", "task.averages", "optimizer.critic", "optimizer.generator"):
        assert any(name.startswith(owner + ".") for name in names)
    assert different(whole, parts) == []
    assert len(log_of(whole)) == 2 * half
    assert (whole.folder / "log.jsonl").read_bytes() == (parts.folder / "log.jsonl").read_bytes()


@pytest.mark.parametrize("recipe", ["cycle-gan-small", "points"])
def test_other_tasks_resume_bit_for_bit(run_in, recipe):
    whole = run_in("whole", "run.steps=16", recipe=recipe)
    run_in("parts", "run.steps=13", recipe=recipe)
    parts = run_in("parts", "run.steps=16", recipe=recipe, resume=True)
    assert different(whole, parts) == []
    assert log_of(whole) == log_of(parts)


def test_log_lines_do_not_depend_on_where_a_run_was_interrupted(run_in):
    """Those of parts that are not due in every step neither."""
    lazy = ("run.log_every=4", "task.penalty=r1:1", "task.penalty_every=3")
    whole = run_in("whole", "run.steps=9", *lazy, recipe="digits-resnet")
    run_in("parts", "run.steps=3", *lazy, recipe="digits-resnet")
    parts = run_in("parts", "run.steps=9", *lazy, recipe="digits-resnet", resume=True)
    assert [line["step"] for line in log_of(parts)] == [4, 8]
    assert all("penalty_r1" in line for line in log_of(parts))
    assert log_of(whole) == log_of(parts)


def test_resuming_after_a_crash_drops_what_the_log_says_of_later_steps(run_in):
    whole = run_in("whole")
    crashed = run_in("crashed", "run.steps=3")
    with open(crashed.folder / "log.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 4, "critic": 99.0, "generator": 99.0}\n{"step": 5, "cri')
    assert log_of(run_in("crashed", resume=True)) == log_of(whole)


def test_seeds_decide(run_in):
    first, again = (run_in(name, "run.steps=2") for name in ("first", "again"))
    other = run_in("other", "run.steps=2", "run.seed=1")
    assert different(first, again) == []
    assert "task.generators.generator.layers.1.weight" in different(first, other)


def test_the_callers_random_numbers_are_untouched(run_in):
    before = torch.get_rng_state()
    run_in("run")
    assert torch.equal(torch.get_rng_state(), before)


def test_what_a_run_leaves_behind(run_in):
    outcome = run_in("run", "run.steps=7", "run.save_every=2", "run.sample_every=3", "run.keep=2")
    run = outcome.folder
    assert [path.stem for path in list_checkpoints(run)] == ["step-00000006", "step-00000007"]
    assert sorted(path.stem for path in (run / "samples").iterdir()) == [
        "step-00000003",
        "step-00000006",
        "step-00000007",
    ]
    written = yaml.safe_load((run / "recipe.yaml").read_text())
    assert (written["run"]["batch_size"], written["task"]["generator"]["width"]) == (16, 64)
    assert recipes.resolved(written).written() == written
    speeds = [json.loads(line) for line in (run / "seconds.jsonl").read_text().splitlines()]
    assert [line["step"] for line in speeds] == list(range(1, 8))
    assert all(line["samples_per_second"] > 0 for line in speeds)
    (events,) = (run / "tensorboard").iterdir()
    assert events.stat().st_size > 1000
    with Image.open(run / "samples" / "step-00000007.png") as picture:
        assert min(picture.size) >= 512


def test_a_run_on_a_folder_of_images(run_in, tmp_path, capsys):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for index in range(20):
        Image.effect_noise((12, 12), index).save(pictures / f"{index}.png")
    (pictures / "notes.txt").write_text("not an image")
    data = f"data.image={pictures}"
    recipe = recipes.read("digits-dcgan", [*SMALL, data, "run.steps=2"])
    outcome = recipes.start(recipe, tmp_path / "run")
    said = capsys.readouterr().out
    assert f"{pictures}: 20 images of 1x8x8, no classes\n  left out 1 whose ending is of no image" in said
    trained = recipes.load(outcome.folder)
    assert len(trained.sources()["image"]) == 20
    first = (pictures / "0.png").read_bytes()
    Image.effect_noise((12, 12), 99).save(pictures / "0.png")
    with pytest.raises(UserError, match=r"the files of .*pictures differ in name, size or content from those that"):
        run_in("run", data, resume=True)
    with pytest.raises(UserError, match=r"CHECKPOINT was trained on '.*pictures', whose files differ in name, size or"):
        trained.sources()
    (pictures / "0.png").write_bytes(first)
    run_in("run", data, "run.steps=3", resume=True)
    Image.new("L", (8, 8)).save(pictures / "one-more.png")
    with pytest.raises(UserError, match=r"pictures has 21 samples, but the run was started with 20"):
        run_in("run", data, resume=True)


def test_a_run_on_textures_resumes_bit_for_bit(run_in):
    whole = run_in("whole", "run.steps=4", "data.image=textures")
    run_in("parts", "run.steps=2", "data.image=textures")
    assert different(whole, run_in("parts", "run.steps=4", "data.image=textures", resume=True)) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_saves_and_can_be_resumed(run_in, monkeypatch, number):
    plain = Run.__next__

    def step_and_signal(run):
        taken = plain(run)
        if run.step == 3:
            os.kill(os.getpid(), number)
        return taken

    before = signal.getsignal(number)
    whole = run_in("whole")
    with monkeypatch.context() as patch:
        patch.setattr(Run, "__next__", step_and_signal)
        stopped = run_in("stopped")
    assert (stopped.run.step, stopped.signal) == (3, number)
    assert signal.getsignal(number) is before
    finished = run_in("stopped", resume=True)
    assert (finished.run.step, finished.signal) == (6, None)
    assert different(whole, finished) == []
    assert log_of(whole) == log_of(finished)


@pytest.mark.parametrize("where", ["advance", "report"])
def test_a_signal_between_steps_is_not_lost(run_in, monkeypatch, where):
    monkeypatch.setattr(
        f"fastgan.train.progress.TrainingProgress.{where}",
        lambda *_: os.kill(os.getpid(), signal.SIGTERM) or 1.0,
    )
    stopped = run_in("run", "run.log_every=2")
    assert (stopped.run.step, stopped.signal) == ({"advance": 1, "report": 2}[where], signal.SIGTERM)
    assert recipes.load(stopped.folder).step == stopped.run.step


def test_a_second_signal_interrupts_at_once(run_in, monkeypatch):
    plain = Run.__next__

    def step_and_signal(run):
        os.kill(os.getpid(), signal.SIGINT)
        return plain(run)

    monkeypatch.setattr(Run, "__next__", lambda run: step_and_signal(run) and step_and_signal(run))
    with pytest.raises(KeyboardInterrupt):
        run_in("run")


def test_training_in_another_thread(run_in):
    """Signals reach the main thread alone: there is nothing to catch, and nothing fails."""
    found = []
    thread = threading.Thread(target=lambda: found.append(run_in("run", "run.steps=1")))
    thread.start()
    thread.join()
    assert found[0].run.step == 1


def test_samples_are_those_of_the_average(run_in):
    outcome = run_in("run")
    trained = recipes.load(outcome.folder)
    images = trained.task.sample(300, seed=4)
    assert images.shape == (300, 1, 8, 8)
    assert images.abs().max() <= 1
    assert trained.step == 6
    assert torch.equal(recipes.load(outcome.folder).task.sample(300, seed=4), images)
    assert not torch.equal(trained.task.sample(300, seed=5), images)
    assert torch.equal(outcome.run.task.sample(300, seed=4), images)
    average = read_checkpoint(outcome.checkpoint)[0]["task.averages.generator.layers.1.weight"]
    assert torch.equal(trained.task.network.layers[1].weight, average)
    assert not any(p.requires_grad for p in trained.task.parameters())


# --- the folder ---


def test_a_second_run_is_refused_and_a_dead_lock_taken_over(run_in, tmp_path):
    run_in("run", "run.steps=2")
    with open(tmp_path / "run" / "lock", "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("process 4321 on elsewhere")
        file.flush()
        with pytest.raises(UserError, match=r"--out is '.*run', where process 4321 on elsewhere is training; expected"):
            run_in("run", resume=True)
    (tmp_path / "run" / "lock").write_text("process 4321 on elsewhere")  # it died: nobody holds the file
    assert run_in("run", resume=True).run.step == 6
    assert (tmp_path / "run" / "lock").read_text() == ""


def test_a_folder_without_a_checkpoint_is_started_anew(run_in, tmp_path):
    whole = run_in("whole")
    for resume in (True, False):
        name = f"killed-{resume}"
        dead = run_in(name, "run.steps=3")
        dead.checkpoint.unlink()  # as if it had been killed before
        (tmp_path / name / "samples" / "step-00000001.png.partial").write_text("cut")
        again = run_in(name, resume=resume)
        assert different(whole, again) == []
        assert log_of(whole) == log_of(again)
        assert not list((tmp_path / name).rglob("*.partial"))


def test_going_on_from_an_older_checkpoint_sets_the_newer_aside(run_in, tmp_path):
    whole = run_in("whole", "run.save_every=2", "run.keep=9")
    run_in("run", "run.save_every=2", "run.keep=9")
    old = tmp_path / "run" / "checkpoints" / "step-00000002.safetensors"
    newer = (tmp_path / "run" / "checkpoints" / "step-00000006.safetensors").read_bytes()
    again = run_in("run", "run.save_every=3", "run.keep=9", resume=True, checkpoint=old)
    assert [path.stem for path in list_checkpoints(again.folder)] == [f"step-{n:08d}" for n in (2, 3, 6)]
    assert different(whole, again) == []
    assert log_of(whole) == log_of(again)
    aside = tmp_path / "run" / "aside" / "001"
    assert sorted(path.stem for path in (aside / "checkpoints").iterdir()) == ["step-00000004", "step-00000006"]
    assert (aside / "checkpoints" / "step-00000006.safetensors").read_bytes() == newer
    assert [json.loads(line)["step"] for line in (aside / "log.jsonl").read_text().splitlines()] == [3, 4, 5, 6]
    with pytest.raises(UserError, match=r"--from is '.*elsewhere.safetensors', expected a checkpoint of the run"):
        run_in("run", resume=True, checkpoint=tmp_path / "elsewhere.safetensors")


@pytest.mark.parametrize("wrong", ["steps", "setting", "checkpoint"])
def test_what_cannot_go_on_from_an_older_checkpoint_sets_nothing_aside(run_in, tmp_path, wrong):
    run_in("run", "run.save_every=2", "run.keep=9")
    old = tmp_path / "run" / "checkpoints" / "step-00000002.safetensors"
    change = {"steps": "run.steps=2", "setting": "game.lr=5"}.get(wrong, "run.steps=9")
    if wrong == "checkpoint":
        old.write_bytes(old.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"run.steps is 2|game.lr is 5|not a whole safetensors"):
        run_in("run", "run.save_every=2", "run.keep=9", change, resume=True, checkpoint=old)
    assert [path.stem[-1] for path in list_checkpoints(tmp_path / "run")] == ["2", "4", "6"]
    assert not (tmp_path / "run" / "aside").exists()
    assert run_in("run", "run.steps=8", resume=True).run.step == 8


def test_lines_of_the_log_that_cannot_be_read_stay_where_they_are(run_in, tmp_path):
    run_in("run")
    log = tmp_path / "run" / "log.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    lines[1:3] = ["garbage\n", '{"step": "x"}\n']
    log.write_text("".join(lines))
    run_in("run", "run.steps=8", resume=True)
    again = log.read_text().splitlines(keepends=True)
    assert again[:6] == lines
    assert [json.loads(line)["step"] for line in again[6:]] == [7, 8]


def test_a_folder_in_which_only_a_lock_was_made_is_started_anew(run_in, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "lock").write_text("")
    (tmp_path / "run" / "recipe.yaml.partial").write_text("ta")
    assert run_in("run").run.step == 6


def test_another_run_that_ended_in_between_is_seen(run_in, tmp_path, monkeypatch):
    """Between the first look at the folder and its lock another process trains there from start to end."""
    real, taken = session.locked, []

    def late(out):
        if not taken:
            taken.append(True)
            run_in("run")
        return real(out)

    monkeypatch.setattr(session, "locked", late)
    with pytest.raises(UserError, match=r"--out is '.*run', which holds a run at step 6; expected a new folder"):
        run_in("run", "run.steps=3")
    assert [json.loads(line)["step"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()] == [
        1, 2, 3, 4, 5, 6,
    ]  # fmt: skip


def test_a_lock_that_cannot_be_had_is_one_line(run_in, tmp_path):
    run_in("run", "run.steps=2")
    (tmp_path / "run" / "lock").unlink()
    (tmp_path / "run" / "lock").mkdir()
    with pytest.raises(UserError, match=r"--out is '.*run', which cannot be written: Is a directory"):
        run_in("run", resume=True)


def test_data_that_lie_elsewhere_by_now(run_in, tmp_path):
    for place in ("one", "other"):
        (tmp_path / place).mkdir()
        for index in range(20):
            Image.new("L", (8, 8), 10 * index).save(tmp_path / place / f"{index}.png")
    run_in("run", f"data.image={tmp_path / 'one'}", "run.steps=2")
    again = run_in("run", f"data.image={tmp_path / 'other'}", resume=True)
    assert again.run.step == 6
    Image.new("L", (8, 8), 255).save(tmp_path / "other" / "3.png")
    with pytest.raises(UserError, match=r"data.image is|differ in name, size or content"):
        run_in("run", f"data.image={tmp_path / 'other'}", "run.steps=8", resume=True)


def test_a_folder_called_like_built_in_data_is_no_data(run_in, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert run_in("digits/run", "run.steps=1").run.step == 1


@pytest.mark.parametrize("what", ["checkpoint", "picture", "log"])
def test_a_full_disk_leaves_no_partial_file_and_the_last_checkpoint(run_in, monkeypatch, what, tmp_path):
    run_in("run", "run.steps=2")
    kept = list_checkpoints(tmp_path / "run")
    fsync, suffix = (
        os.fsync,
        {"checkpoint": ".safetensors.partial", "picture": ".png.partial", "log": "log.jsonl"}[what],
    )

    def full(descriptor):
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(suffix):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        run_in("run", resume=True)
    assert not list((tmp_path / "run").rglob("*.partial"))
    assert list_checkpoints(tmp_path / "run") == kept
    monkeypatch.undo()
    assert run_in("run", resume=True).run.step == 6


def test_a_folder_in_use_is_refused(run_in, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"--out is '.*run', which is not empty and holds no run; expected a new"):
        run_in("run")
    run_in("other", "run.steps=2")
    with pytest.raises(UserError, match=r"--out is '.*other', which holds a run at step 2; expected a new folder, or"):
        run_in("other")


def test_a_run_inside_its_own_data_is_refused(run_in, tmp_path):
    """Its sample grids would become training images."""
    with pytest.raises(UserError, match=r"--out is '.*run', inside data.image; expected a folder elsewhere"):
        run_in("run", f"data.image={tmp_path}")


def test_an_unwritable_folder_is_refused(run_in, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--out is '.*file/run', which cannot be written: Not a directory"):
        run_in("file/run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["run.batch_size=1798"], r"run.batch_size is 1798, expected 1 to 1797, the number of samples in digits"),
        (["run.chunks=3"], r"run.chunks is 3, expected a divisor of run.batch_size, which is 16"),
        (["data.image=nowhere"], r"--data is 'nowhere', which does not exist"),
        (["run.device=quantum"], r"run.device is 'quantum', expected auto, cpu, cuda or cuda:N"),
        (["run.device=cuda:99"], r"run.device is 'cuda:99', but PyTorch sees \d+ CUDA devices"),
        (
            ["game.kind=consensus", "run.chunks=2"],
            r"run.chunks is 2, expected 1: consensus differentiates whole",
        ),
        (
            ["game.kind=consensus", "run.precision=bfloat16"],
            r"run.precision is 'bfloat16', expected 'float32': con",
        ),
        (
            ["game.kind=consensus", "game.unroll=2"],
            r"game.unroll is 2, expected 0: consensus differentiates who",
        ),
    ],
)
def test_runs_that_cannot_start(run_in, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        run_in("run", *changes)
    assert not (tmp_path / "run").exists()


def test_resume_refusals(run_in, tmp_path):
    with pytest.raises(UserError, match=r"--out is '.*run', which does not exist; expected the folder of a run"):
        run_in("run", resume=True)
    outcome = run_in("run")
    with pytest.raises(UserError, match=r"--out is '.*safetensors', which is a file; expected the folder of a run"):
        run_in(outcome.checkpoint, resume=True)
    with pytest.raises(UserError, match=r"run.steps is 6, but the run is at step 6; expected more"):
        run_in("run", resume=True)
    with pytest.raises(UserError, match=r"run.batch_size is 8, but the run was started with 16; expected the same"):
        run_in("run", "run.batch_size=8", "run.steps=9", resume=True)
    with pytest.raises(UserError, match=r"task.generator.width is 32, but the run was started with 64; expected the"):
        run_in("run", "task.generator.width=32", "run.steps=9", resume=True)
    outcome.checkpoint.write_bytes(outcome.checkpoint.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"step-00000006.safetensors is not a whole safetensors file"):
        run_in("run", "run.steps=9", resume=True)


# --- tasks that are given as objects ---


def networks():
    torch.manual_seed(5)
    return DCGANGenerator(8, 1, 8, 4), DCGANCritic(1, 8, 4, 8, 4, 2, dropout=0.2, noise=0.1)


def test_fit_resumes_bit_for_bit(tmp_path):
    settings = {"data": "digits", "batch_size": 16, "device": "cpu", "log_every": 1, "quiet": True}
    whole = fit(GAN(*networks(), "hinge"), out=tmp_path / "whole", steps=4, **settings)
    fit(GAN(*networks(), "hinge"), out=tmp_path / "parts", steps=2, **settings)
    parts = fit(GAN(*networks(), "hinge"), out=tmp_path / "parts", steps=4, resume=True, **settings)
    one, other = whole.tensors(), parts.tensors()
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    with pytest.raises(UserError, match=r"game.lr is 0.001, but the run was started with 0.0002"):
        fit(GAN(*networks(), "hinge"), out=tmp_path / "parts", steps=6, resume=True, lr=1e-3, **settings)
    with pytest.raises(UserError, match=r"step-00000004.safetensors does not fit these networks"):
        fit(
            GAN(*networks()[:1], networks()[1].features, "hinge"),
            out=tmp_path / "parts",
            steps=6,
            resume=True,
            **settings,
        )


def test_fit_without_a_folder_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = fit(GAN(*networks(), "hinge"), torch.randn(40, 1, 8, 8).clamp(-1, 1), steps=2, batch_size=8, device="cpu")
    assert (run.step, run.task.sample(3).shape) == (2, (3, 1, 8, 8))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match=r"learning_rate is no setting, expected one of"):
        fit(GAN(*networks()), "digits", steps=1, learning_rate=1)
    with pytest.raises(UserError, match=r"batchsize is no setting, expected 'batch_size', or another of"):
        fit(GAN(*networks()), "digits", steps=1, batchsize=1)


@pytest.mark.parametrize("shape", [(40, 2), (40, 3, 2), (40,), (40, 2, 1, 4, 4)])
def test_fit_takes_tensors_of_samples_of_any_shape(shape, tmp_path, generator):
    data = torch.rand(shape, generator=generator)
    flat = data[0].numel()

    class Makes(torch.nn.Module):
        latent_dim = 3

        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3, flat)

        def forward(self, z):
            return self.layer(z).view(len(z), *shape[1:])

    class Judges(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(flat, 1)

        def forward(self, x):
            return self.layer(x.reshape(len(x), -1))

    torch.manual_seed(0)
    makes, judges = Makes(), Judges()
    run = fit(GAN(makes, judges, "hinge"), data, steps=2, batch_size=8, device="cpu")
    assert {row.tobytes() for row in run.engine.batch().tensors["image"].numpy()} <= {
        row.tobytes() for row in data.numpy()
    }
    assert run.task.sample(5).shape == (5, *shape[1:])


def test_what_fit_is_not_given_as_data(tmp_path):
    settings = {"steps": 1, "batch_size": 4, "device": "cpu", "quiet": True}
    for data, message in (
        (None, "data.image is None, expected a name, a folder, a tensor or a Source"),
        ([1, 2], r"data.image is \[1, 2\], expected a name, a folder, a tensor or a Source"),
        (torch.zeros(0, 1, 8, 8), r"data.image is a tensor of shape \[0, 1, 8, 8\], expected samples"),
        (torch.zeros(9, 1, 8, 8, dtype=torch.int64), "data.image is a tensor of torch.int64, expected floating"),
        (torch.zeros(9, 3, 8, 8), r"data.image has samples of shape \[3, 8, 8\], expected \[1, 8, 8\]"),
        ({"a": "digits"}, "the data are a, expected image"),
        ("~nosuchuser/photos", "--data is '~nosuchuser/photos', which is no path"),
    ):
        with pytest.raises(UserError, match=message):
            fit(GAN(*networks(), "hinge"), data, **settings)
    data = torch.rand(9, 1, 8, 8)
    fit(GAN(*networks(), "hinge"), data, tmp_path / "run", **settings)
    with pytest.raises(UserError, match=r"data.image differ"):
        fit(GAN(*networks(), "hinge"), 1 - data, tmp_path / "run", resume=True, **{**settings, "steps": 2})
    (tmp_path / "photos").mkdir()
    for index in range(5):
        Image.new("L", (8, 8), 40 * index).save(tmp_path / "photos" / f"{index}.png")
    with pytest.raises(UserError, match=r"--out is '.*photos/run', inside data; expected a folder elsewhere"):
        fit(GAN(*networks(), "hinge"), tmp_path / "photos", tmp_path / "photos" / "run", **settings)
