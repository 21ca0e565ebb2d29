"""kill -9 at any moment, stepping, drawing or writing, then --resume: the same bits as without, the log's included."""

import random
import subprocess
import sys
import time

import pytest

from fastgan.train.checkpoint import find_checkpoint, list_checkpoints, read_checkpoint

# So that a run spends as much time in writing and drawing as in stepping.
OFTEN = [
    "run.log_every=1",
    "run.sample_every=2",
    "run.save_every=3",
    "run.keep=2",
    "run.device=cpu",
    "run.batch_size=8",
]
RUNS = {
    "digits-dcgan": ["task.generator.width=16", "task.critic.width=8", "run.steps=90"],
    "cycle-gan-small": [
        "data.resolution=16", "task.generator.width=4", "task.generator.blocks=1", "task.critic.width=4",
        "task.critic.halvings=1", "run.steps=60",
    ],
}  # fmt: skip

pytestmark = pytest.mark.usefixtures("one_thread_in_processes")


def process(*arguments):
    command = [sys.executable, "-m", "fastgan", "train", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(*arguments):
    running = process(*arguments)
    out, _ = running.communicate(timeout=300)
    assert running.returncode == 0, out
    return out


def killed(rng, folder, *arguments):
    """Starts and kills it at some moment after it has found its folder; whether it was still running."""
    before = [path.stat().st_mtime_ns for path in (folder / "log.jsonl",) if path.exists()]
    running = process(*arguments)
    while running.poll() is None and [p.stat().st_mtime_ns for p in (folder / "log.jsonl",) if p.exists()] == before:
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.6))
    alive = running.poll() is None
    running.kill()
    running.communicate()
    return alive


def kill_and_resume(recipe, times, seed, tmp_path):
    rng, changes = random.Random(seed), [*OFTEN, *RUNS[recipe]]
    finished(recipe, "--out", tmp_path / "whole", *changes)
    parts = tmp_path / "parts"
    arguments = [recipe, "--out", parts, *changes]
    kills = 0
    for _ in range(times):
        kills += killed(rng, parts, *arguments)
        # One that was killed before its first checkpoint is started anew, by either way.
        begun = (parts / "recipe.yaml").exists()
        arguments = ["--resume", "--out", parts] if begun else [recipe, "--out", parts, *changes]
        if list_checkpoints(parts) and read_checkpoint(find_checkpoint(parts, "--out"))[1]["step"] == steps_of(recipe):
            break
    else:
        finished(*arguments)
    assert kills
    one, other = (read_checkpoint(find_checkpoint(tmp_path / name, "--out")) for name in ("whole", "parts"))
    assert one[1]["step"] == other[1]["step"] == steps_of(recipe)
    assert [name for name in one[0] if one[0][name].numpy().tobytes() != other[0][name].numpy().tobytes()] == []
    for name in ("log.jsonl", f"samples/step-{steps_of(recipe):08d}.png"):
        assert (tmp_path / "whole" / name).read_bytes() == (parts / name).read_bytes()
    assert not list(parts.rglob("*.partial"))


def steps_of(recipe):
    return int(RUNS[recipe][-1].removeprefix("run.steps="))


@pytest.mark.parametrize("recipe", RUNS)
def test_killed_once(recipe, seed, tmp_path):
    kill_and_resume(recipe, 1, seed, tmp_path)


@pytest.mark.thorough
@pytest.mark.parametrize("recipe", RUNS)
def test_killed_ten_times(recipe, seed, tmp_path):
    kill_and_resume(recipe, 10, seed, tmp_path)
