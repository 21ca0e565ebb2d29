"""Runs: resumed bit for bit, stopped by signals, and refused in one line."""

import json
import os
import signal
import threading

import pytest
import torch
from PIL import Image

from fastgan.errors import UserError
from fastgan.train import TrainConfig, load_generator, resume, train, training_images
from fastgan.train.checkpoint import read_checkpoint
from fastgan.train.step import train_step
from tests.rotation import in_turn


def log_of(out):
    """The log without the one figure that depends on the clock."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert all(line.pop("images_per_second") > 0 for line in lines)
    return lines


def same_tensors(one, other):
    first, second = (read_checkpoint(result.checkpoint)[0] for result in (one, other))
    assert first.keys() == second.keys()
    return [name for name in first if first[name].numpy().tobytes() != second[name].numpy().tobytes()]


@pytest.mark.parametrize(("half", "batch_size", "threads"), in_turn([(5, 16, 2), (4, 500, 1)], "resumed"))
def test_resumed_run_is_bitwise_the_uninterrupted_one(tiny, half, batch_size, threads):
    """Batches of 500 make an epoch of three steps, so that the second half starts inside the second epoch."""
    torch.set_num_threads(threads)
    whole = train(tiny("whole", steps=2 * half, batch_size=batch_size), quiet=True)
    train(tiny("parts", steps=half, batch_size=batch_size), quiet=True)
    torch.rand(3)  # what the caller does in between has no part in it
    parts = resume(tiny("parts").out, quiet=True, steps=2 * half)
    names = read_checkpoint(whole.checkpoint)[0].keys()
    for owner in ("generator", "critic", "average", "generator_optimizer", "critic_optimizer", "order", "random"):
        assert any(name.startswith(owner + ".") for name in names)
    assert same_tensors(whole, parts) == []
    assert len(log_of(whole.run)) == 2 * half
    assert log_of(whole.run) == log_of(parts.run)


def test_log_lines_do_not_depend_on_where_a_run_was_interrupted(tiny):
    whole = train(tiny("whole", steps=9, log_every=4), quiet=True)
    train(tiny("parts", steps=3, log_every=4), quiet=True)
    parts = resume(tiny("parts").out, quiet=True, steps=9)
    assert [line["step"] for line in log_of(parts.run)] == [4, 8]
    assert log_of(whole.run) == log_of(parts.run)


def test_resuming_after_a_crash_drops_what_the_log_says_of_later_steps(tiny):
    whole = train(tiny("whole"), quiet=True)
    train(tiny("crashed", steps=3), quiet=True)
    log = tiny("crashed").out + "/log.jsonl"
    with open(log, "a", encoding="utf-8") as file:
        file.write('{"step": 4, "critic": 99.0, "generator": 99.0, "images_per_second": 1.0}\n{"step": 5, "cri')
    parts = resume(tiny("crashed").out, quiet=True, steps=6)
    assert log_of(parts.run) == log_of(whole.run)


def test_seeds_decide(tiny):
    first, again = (train(tiny(name, steps=2), quiet=True) for name in ("first", "again"))
    other = train(tiny("other", steps=2, seed=1), quiet=True)
    assert same_tensors(first, again) == []
    assert "generator.layers.1.weight" in same_tensors(first, other)


def test_the_callers_random_numbers_are_untouched(tiny):
    before = torch.get_rng_state()
    train(tiny(), quiet=True)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_a_run_leaves_behind(tiny):
    result = train(tiny(steps=7, save_every=2, sample_every=3, keep=2), quiet=True)
    run = result.run
    assert [path.stem for path in sorted((run / "checkpoints").iterdir())] == ["step-00000006", "step-00000007"]
    assert sorted(path.stem for path in (run / "samples").iterdir()) == [
        "step-00000003",
        "step-00000006",
        "step-00000007",
    ]
    assert json.loads((run / "config.json").read_text())["batch_size"] == 16
    (events,) = (run / "tensorboard").iterdir()
    assert events.stat().st_size > 1000
    with Image.open(run / "samples" / "step-00000007.png") as picture:
        assert min(picture.size) >= 512


def test_a_run_on_a_folder_of_images(tiny, tmp_path, capsys):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for index in range(20):
        Image.effect_noise((12, 12), index).save(pictures / f"{index}.png")
    (pictures / "notes.txt").write_text("not an image")
    result = train(tiny(data=str(pictures), steps=2))
    said = capsys.readouterr().out
    assert f"{pictures}: 20 images of 1x8x8, no classes\n  left out 1 whose ending is of no image" in said
    generator = load_generator(result.run)
    assert generator.config.data == str(pictures)
    assert len(training_images(generator.config, generator.digest)) == 20
    first = (pictures / "0.png").read_bytes()
    Image.effect_noise((12, 12), 99).save(pictures / "0.png")
    with pytest.raises(UserError, match=r"--data is '.*pictures', whose files differ in name, size or content from"):
        resume(result.run, quiet=True, steps=4)
    with pytest.raises(UserError, match=r"CHECKPOINT was trained on '.*pictures', whose files differ in name, size or"):
        training_images(generator.config, generator.digest)
    (pictures / "0.png").write_bytes(first)
    resume(result.run, quiet=True, steps=3)
    Image.new("L", (8, 8)).save(pictures / "one-more.png")
    with pytest.raises(UserError, match=r"--data has 21 images, but the run was started with 20"):
        resume(result.run, quiet=True, steps=4)


def test_a_run_on_textures_resumes_bit_for_bit(tiny):
    whole = train(tiny("whole", data="textures", steps=4), quiet=True)
    parts = resume(train(tiny("parts", data="textures", steps=2), quiet=True).run, quiet=True, steps=4)
    assert same_tensors(whole, parts) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_saves_and_can_be_resumed(tiny, monkeypatch, number):
    def step_and_signal(*args):
        taken = train_step(*args)
        if args[0].step == 3:
            os.kill(os.getpid(), number)
        return taken

    before = signal.getsignal(number)
    whole = train(tiny("whole"), quiet=True)
    with monkeypatch.context() as patch:
        patch.setattr("fastgan.train.loop.train_step", step_and_signal)
        stopped = train(tiny("stopped"), quiet=True)
    assert (stopped.step, stopped.signal) == (3, number)
    assert signal.getsignal(number) is before
    finished = resume(stopped.run, quiet=True)
    assert (finished.step, finished.signal) == (6, None)
    assert same_tensors(whole, finished) == []
    assert log_of(whole.run) == log_of(finished.run)


@pytest.mark.parametrize("where", ["advance", "report"])
def test_a_signal_between_steps_is_not_lost(tiny, monkeypatch, where):
    monkeypatch.setattr(
        f"fastgan.train.progress.TrainingProgress.{where}",
        lambda *_: os.kill(os.getpid(), signal.SIGTERM) or 1.0,
    )
    stopped = train(tiny(log_every=2), quiet=True)
    assert (stopped.step, stopped.signal) == ({"advance": 1, "report": 2}[where], signal.SIGTERM)
    assert load_generator(stopped.run).step == stopped.step


def test_a_second_signal_interrupts_at_once(tiny, monkeypatch):
    def signal_twice(*args):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        return train_step(*args)

    monkeypatch.setattr("fastgan.train.loop.train_step", signal_twice)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), quiet=True)


def test_training_in_a_thread_leaves_signals_alone(tiny):
    results = []
    thread = threading.Thread(target=lambda: results.append(train(tiny(steps=1), quiet=True)))
    thread.start()
    thread.join()
    assert results[0].step == 1


def test_a_diverged_run_stops_and_is_not_saved(tiny):
    with pytest.raises(
        UserError, match=r"loss is (nan|inf) at step \d+, expected a finite one; there is no checkpoint. Lower --lr"
    ):
        train(tiny(steps=50, lr=1e30, lr_critic=1e30), quiet=True)
    assert not os.path.exists(tiny().out + "/checkpoints")


def test_samples_come_from_the_average_and_from_the_seed(tiny):
    result = train(tiny(), quiet=True)
    generator = load_generator(result.checkpoint)
    images = generator.sample(300, seed=4)
    assert images.shape == (300, 1, 8, 8)
    assert generator.step == 6
    assert torch.equal(load_generator(result.run).sample(300, seed=4), images)
    assert not torch.equal(generator.sample(300, seed=5), images)
    average = read_checkpoint(result.checkpoint)[0]["average.layers.1.weight"]
    assert torch.equal(generator.network.layers[1].weight, average)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "--steps is 0, expected at least 1"),
        ({"steps": -5}, "--steps is -5, expected at least 1"),
        ({"batch_size": 0}, "--batch-size is 0, expected at least 1"),
        ({"lr": 0.0}, "--lr is 0.0, expected a number above 0"),
        ({"lr_critic": float("nan")}, "--lr-critic is nan, expected a number above 0"),
        ({"beta1": 1.0}, "--beta1 is 1.0, expected at least 0 and below 1"),
        ({"ema": -0.1}, "--ema is -0.1, expected at least 0 and below 1"),
        ({"seed": -1}, r"--seed is -1, expected 0 to"),
        ({"loss": "magic"}, "--loss is 'magic', expected one of nonsaturating"),
        ({"preset": "biggest"}, "--preset is 'biggest', expected one of digits-dcgan, digits-resnet"),
        ({"keep": 0}, "--keep is 0, expected at least 1"),
    ],
)
def test_settings_out_of_range(changes, message):
    with pytest.raises(UserError, match=message):
        TrainConfig.for_preset(**{"preset": "digits-dcgan", "out": "run", **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 1798}, r"--batch-size is 1798, expected 1 to 1797, the number of images in digits"),
        ({"data": "nowhere"}, r"--data is 'nowhere', which does not exist"),
        ({"device": "quantum"}, r"--device is 'quantum', expected auto, cpu, cuda or cuda:N"),
        ({"device": "cuda:99"}, r"--device is 'cuda:99', but PyTorch sees \d+ CUDA devices"),
    ],
)
def test_runs_that_cannot_start(tiny, changes, message):
    with pytest.raises(UserError, match=message):
        train(tiny(**changes), quiet=True)


def test_a_folder_in_use_is_refused(tiny, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"--out is '.*run', which is not empty; expected a new folder"):
        train(tiny(), quiet=True)


def test_a_run_inside_its_own_data_is_refused(tiny, tmp_path):
    """Its sample grids would become training images."""
    with pytest.raises(UserError, match=r"--out is '.*run', inside --data; expected a folder elsewhere"):
        train(tiny(data=str(tmp_path)), quiet=True)


def test_an_unwritable_folder_is_refused(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--out is '.*file/run', which cannot be written: Not a directory"):
        train(tiny("file/run"), quiet=True)


def test_resume_refusals(tiny, tmp_path):
    with pytest.raises(UserError, match=r"--out is '.*run', which does not exist; expected"):
        resume(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"--out is '.*empty', which holds no checkpoint; expected"):
        resume(tmp_path / "empty")
    result = train(tiny(), quiet=True)
    with pytest.raises(UserError, match=r"--out is '.*safetensors', which is a file; expected"):
        resume(result.checkpoint)
    with pytest.raises(UserError, match=r"--steps is 6, but the run is at step 6; expected more"):
        resume(result.run)
    with pytest.raises(UserError, match=r"--batch-size is 8, but the run was started with 16; expected the same"):
        resume(result.run, steps=9, batch_size=8)
    result.checkpoint.write_bytes(result.checkpoint.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"step-00000006.safetensors is not a whole safetensors file"):
        resume(result.run, steps=9)
