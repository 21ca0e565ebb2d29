"""The stages of `make gpu` with the CPU in the GPU's place: what they ask for is there, and their code runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import ceiling, suite
from benchmarks.gpu import bandwidth, critic_loss, machine, networks, outcomes, penalties, rows
from benchmarks.gpu.record import Record, Result
from benchmarks.gpu.stages import ACCURACY, Device, stages
from benchmarks.penalties.critics import CRITICS
from fastgan.registry import OPS
from tests.benchmarks.fakes import broken, slightly_wrong, spec
from tests.rotation import in_turn

CPU, H200 = Device("cpu", "a CPU", "9.0"), Device("cuda", "NVIDIA H200", "9.0")
ROOT = Path(__file__).resolve().parents[2]
NOT_NEEDED = ("typer", "rich", "PIL", "hypothesis", "matplotlib", "scipy", "sklearn", "safetensors", "torchmetrics")


@pytest.fixture
def record(tmp_path):
    """One in which the stage `machine` has found the names of everything on a CPU."""
    record = Record(tmp_path)
    record.begin("machine")
    record.add(Result("names", "ok", 1.0, list(machine.find("names", torch.device("cpu")))))
    return record


def found(stage: str, record: Record, device: Device = CPU):
    (chosen,) = (each for each in stages(device) if each.name == stage)
    return chosen.tasks(record)


def test_every_op_critic_and_network_has_its_task(record):
    assert [task.name for task in found("bandwidth", record)] == list(OPS)
    assert [task.name for task in found("critic_loss", record)] == list(CRITICS)
    assert [task.name for task in found("penalties", record)] == list(CRITICS)
    assert {task.name for task in found("accuracy", record)} == {
        f"{op.name}-cpu-cpu" for op in OPS.values() if "cpu" in op.backends
    }


def test_pytest_finds_the_accuracy_tests_by_the_names_that_the_stage_gives(record):
    given = [test for task in found("accuracy", record) for test in task.command if test.startswith(ACCURACY)]
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", *given]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert [line for line in done.stdout.splitlines() if "::" in line] == given


def test_the_files_of_tests_that_are_named_are_there(record):
    for stage in ("CUDA graphs", "rest"):
        named = [part for task in found(stage, record, H200) for part in task.command if part.startswith("tests/")]
        assert named
        assert all((ROOT / path.partition("::")[0]).exists() for path in named)


def test_the_build_is_for_the_devices_architecture_and_again_without_cuda_only_where_it_failed(record):
    (build,) = found("build", record, H200)
    assert build.environment == {"FASTGAN_CUDA": "1", "TORCH_CUDA_ARCH_LIST": "9.0"}
    assert build.command[1:] == ("-m", "pip", "install", "--no-build-isolation", "--no-deps", "--editable", ".")
    record.begin("build")
    record.add(Result("sm_90", "exit status 1", 1.0))
    (second,) = found("build without CUDA C++", record, H200)
    assert second.environment["FASTGAN_CUDA"] == "0"
    record.begin("build")
    record.add(Result("sm_90", "ok", 1.0))
    assert found("build without CUDA C++", record, H200) == []


def test_nothing_is_known_where_the_machine_stage_failed(tmp_path):
    record = Record(tmp_path)
    for stage in ("accuracy", "bandwidth", "critic_loss"):
        with pytest.raises(LookupError, match="stage machine has found no"):
            found(stage, record)


def written(find, name: str, path: Path) -> list[dict]:
    rows.main(find, [name, "--device", "cpu", "--rows", str(path)])
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_critic_loss_on_the_cpu(tmp_path):
    path = tmp_path / "rows"
    assert rows.main(critic_loss.find, ["mlp", "--device", "cpu", "--rows", str(path)]) == 0
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert {(row["dtype"], row["objective"]) for row in found} == {
        (dtype, objective) for dtype in ("torch.float32", "torch.bfloat16") for objective in ("R1", "R1+R2", "WGAN-GP")
    }
    assert all(row["status"] == "ok" and row["error"] < 0.1 for row in found)


def test_critic_loss_sees_a_wrong_gradient(tmp_path, monkeypatch):
    step = critic_loss.STEPS["one_pass"]

    def half(subject):
        step.run(subject)
        for parameter in subject.critic.parameters():
            parameter.grad *= 0.5

    wrong = type(step)(half, step.truth, step.yardstick)
    monkeypatch.setattr(critic_loss, "STEPS", {**critic_loss.STEPS, "one_pass": wrong})
    path = tmp_path / "rows"
    assert rows.main(critic_loss.find, ["mlp", "--device", "cpu", "--rows", str(path)]) == 1
    statuses = {(row["implementation"], row["status"]) for row in map(json.loads, path.read_text().splitlines())}
    assert statuses == {("one_pass", "wrong"), ("lean", "ok"), ("simultaneous", "ok")}


@pytest.mark.parametrize(("function", "status"), in_turn([(slightly_wrong, "wrong"), (broken, "error")], "bandwidth"))
def test_bandwidth_on_the_cpu(tmp_path, monkeypatch, function, status):
    monkeypatch.setattr(ceiling, "measure", lambda device: ceiling.Ceiling(1 << 20, 1e10, 1e11, 1e11))
    monkeypatch.setattr(bandwidth, "OPTIONS", suite.Options(with_compile=False, with_memory=False, budget_s=0.01))
    monkeypatch.setitem(OPS, "fake", spec(lambda x: (x * x + 1).sqrt()))
    monkeypatch.setitem(OPS, "off", spec(function))
    found = written(bandwidth.find, "fake", tmp_path / "right")
    (row,) = (r for r in found if (r["implementation"], r["stage"], r["dtype"]) == ("cpu", "forward", "torch.float32"))
    assert row["status"] == "ok"
    assert row["ceiling_share"] > 0
    assert rows.main(bandwidth.find, ["off", "--device", "cpu", "--rows", str(tmp_path / "wrong")]) == 1
    found = map(json.loads, (tmp_path / "wrong").read_text().splitlines())
    assert {row["status"] for row in found if row["implementation"] == "cpu"} == {status}


def test_penalties_and_networks_on_the_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr(penalties, "BUDGET_S", 0.01)
    monkeypatch.setattr(penalties, "BATCH", 4)
    monkeypatch.setattr(penalties, "LAYOUTS", penalties.LAYOUTS[1:])
    monkeypatch.setattr(networks, "BUDGET_S", 0.01)
    monkeypatch.setattr(networks.spectral_norm, "NETWORKS", {"small": ((8, 4, 3, 3), (8, 8))})
    timed = written(penalties.find, "mlp", tmp_path / "penalties")
    assert all(row["median_ms"] > 0 and row["batch"] == 4 for row in timed if row["implementation"] == "one_pass")
    (network,) = written(networks.find, "small", tmp_path / "network")
    assert network["speed-up forward+backward"] > 0


def test_pytest_writes_a_row_for_every_outcome(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import pytest\ndef test_a(): pass\ndef test_b(): assert 1 == 2\n"
        "@pytest.mark.skip(reason='why')\ndef test_c(): pass\n"
        "@pytest.fixture\ndef broken(): raise OSError('no')\ndef test_d(broken): pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", outcomes.__name__, "--rows", tmp_path / "rows"]
    done = subprocess.run([*command, "--rootdir", tmp_path, tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    found = [json.loads(line) for line in (tmp_path / "rows").read_text().splitlines()]
    assert [(row["test"].rpartition("::")[2], row["status"]) for row in found] == [
        ("test_a", "passed"), ("test_b", "failed"), ("test_c", "skipped"), ("test_d", "failed"),
    ]  # fmt: skip
    assert "assert 1 == 2" in found[1]["message"] or "AssertionError" in found[1]["message"]


def test_nothing_but_torch_numpy_and_pytest_is_needed():
    """Every module that a task imports; the tests of tests/games and the like, which come last, may need more."""
    tasks = [f"benchmarks.gpu.{name}" for name in ("machine", "critic_loss", "bandwidth", "penalties", "networks")]
    tests = ["tests.ops.test_accuracy", "tests.ops.test_gpu", "tests.penalties.test_gpu", "tests.nn.test_gpu"]
    code = (
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({NOT_NEEDED}))\n"
        f"for name in {['benchmarks.gpu.outcomes', *tasks, *tests]}: importlib.import_module(name)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_runner_needs_the_standard_library_only():
    """It runs before anything is built, and a fault of the device must not reach it."""
    code = "import sys, benchmarks.gpu.__main__; print([name for name in ('torch', 'fastgan') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
