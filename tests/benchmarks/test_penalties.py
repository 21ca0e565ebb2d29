"""The command `python -m benchmarks.penalties`: its output, its errors and its exit status."""

import dataclasses
import json
import subprocess
import sys

import pytest
import torch

from benchmarks.environment import ROOT
from benchmarks.penalties import __main__ as command
from benchmarks.penalties import check, steps, suite
from benchmarks.penalties.case import MAIN, OBJECTIVES, Case
from benchmarks.penalties.count import convolutions
from benchmarks.penalties.critics import CRITICS
from benchmarks.penalties.results import load
from benchmarks.results import ERROR, OK, UNSUPPORTED, WRONG
from fastgan import native
from fastgan.nn import EqualizedConv2d
from tests.benchmarks import tiny

pytestmark = pytest.mark.skipif(native.reason_missing is not None, reason=str(native.reason_missing))

CPU = torch.device("cpu")
QUICK = suite.Options(with_compile=False, with_memory=False, budget_s=0.001)


@pytest.fixture
def bench(monkeypatch, tmp_path, capsys):
    """Runs the command over one tiny critic; returns its exit status, its output and its results."""

    def run_command(kind, *more, **replaced):
        for name in list(CRITICS):
            monkeypatch.delitem(CRITICS, name)
        monkeypatch.setitem(CRITICS, kind, tiny.KINDS[kind])
        for name, function in replaced.items():
            monkeypatch.setitem(steps.STEPS, name, dataclasses.replace(steps.STEPS[name], run=function))
        arguments = ["--device", "cpu", "--quick", "--no-compile", "--no-memory", "--out", str(tmp_path), *more]
        status = command.main(arguments)
        (path,) = tmp_path.glob("*.json")
        return status, capsys.readouterr().out, load(path)

    return run_command


def test_right_implementations_get_their_figures(bench):
    status, printed, results = bench("tiny")
    assert status == 0
    assert "WRONG" not in printed
    names = [name for name, step in steps.STEPS.items() if not step.compiled]
    assert [row.implementation for row in results.rows] == names
    for row in results.rows:
        assert row.status == OK, row
        assert row.p20_ms <= row.median_ms <= row.p80_ms
        assert row.error < 1e-5
    assert results.over(results.find("tiny", MAIN, "joint"), "one_pass") > 0
    assert results.critics["tiny"]["parameters"] == 3 * 4 * 9 + 4 + 4 * 4 * 9 + 4 + 64 + 1


def test_convolutions_are_counted(bench):
    _, _, results = bench("tiny")
    plain, one_pass, joint = (results.find("tiny", MAIN, name) for name in ("plain", "one_pass", "joint"))
    assert (plain.conv_forward, plain.conv_backward) == (4, 6)  # two layers, two batches; no gradient of the images
    assert one_pass.conv_forward + one_pass.conv_backward < joint.conv_forward + joint.conv_backward


@pytest.mark.parametrize("conv", [torch.nn.Conv2d(2, 3, 3), EqualizedConv2d(8, 8, 3)], ids=["torch's", "fastgan's"])
def test_the_counter_sees_each_gradient(conv):
    x = torch.randn(2, conv.weight.shape[1], 9, 9, requires_grad=True)
    assert convolutions(lambda: conv(x)) == (1, 0)
    assert convolutions(lambda: conv(x).sum().backward()) == (1, 2)
    assert convolutions(lambda: conv(x.detach()).sum().backward()) == (1, 1)


@pytest.mark.parametrize(
    "wrong", [tiny.without_penalties, tiny.slightly_too_long, tiny.second_half_of_the_penalties_only]
)
def test_a_wrong_implementation_gets_no_figure(bench, wrong):
    status, printed, results = bench("tiny", one_pass=wrong)
    assert status == 1
    assert "WRONG" in printed
    row = results.find("tiny", MAIN, "one_pass")
    assert row.status == WRONG
    assert row.median_ms is None
    assert row.peak_bytes is None
    assert results.over(row, "plain") is None
    assert results.over(results.find("tiny", MAIN, "joint"), "one_pass") is None
    assert results.find("tiny", MAIN, "lean").status == OK


def test_a_wrong_gradient_of_the_fakes_is_seen(bench):
    def wrong(subject):
        steps.simultaneous(subject)
        subject.fake.grad *= 1.001

    status, _, results = bench("tiny", simultaneous=wrong)
    assert status == 1
    assert "fakes" in results.find("tiny", MAIN, "simultaneous").message


def test_an_implementation_that_raises_is_a_row(bench):
    status, printed, results = bench("tiny", one_pass=tiny.broken)
    assert status == 1
    assert results.find("tiny", MAIN, "one_pass").status == ERROR
    assert "no such method" in printed
    assert results.find("tiny", MAIN, "joint").status == OK


def test_a_critic_without_one_pass_is_a_row(bench):
    _, _, results = bench("curved")
    row = results.find("curved", MAIN, "one_pass")
    assert row.status == ERROR
    assert "NotAffineError" in row.message
    assert results.find("curved", MAIN, "lean").status == OK


@pytest.mark.parametrize("objective", list(OBJECTIVES))
@pytest.mark.parametrize("kind", ["tiny", "normalised"])
def test_every_objective_is_right_in_every_implementation(kind, objective):
    rows = suite.run_case(Case(tiny.KINDS[kind], OBJECTIVES[objective], CPU), QUICK)
    statuses = {row.implementation: row.status for row in rows}
    if kind == "normalised" and objective == MAIN:  # one more forward pass is one more power iteration
        assert statuses.pop("simultaneous") == statuses.pop("joint + generator") == UNSUPPORTED
    assert set(statuses.values()) == {OK}, rows
    assert ("simultaneous" in statuses) == (objective == MAIN and kind == "tiny")


@pytest.mark.parametrize("name", list(CRITICS))
def test_loss_and_penalties_are_visible_in_every_critic(name):
    kind = CRITICS[name]
    for objective in OBJECTIVES.values() if kind.several else (OBJECTIVES[MAIN],):
        exact = Case(kind, objective, CPU).subject(2 if kind.convolutional else kind.batch).double()
        whole, loss = (check.gradients(step, exact) for step in (steps.joint, steps.plain))
        assert check.visible(whole, loss)
        assert not check.visible(loss, loss)


def test_half_precision_and_channels_last_run(bench):
    status, _, results = bench("tiny", "--dtype", "bfloat16", "--channels-last")
    assert status == 0
    assert results.name.endswith("-bfloat16-channels-last")
    assert 1e-5 < results.find("tiny", MAIN, "joint").error < 0.1


def test_what_is_compiled_has_more_room_but_not_much():
    assert check.complaint([2e-4], [1e-6], torch.float32) is not None
    assert check.complaint([2e-4], [1e-6], torch.float32, otherwise=True) is None
    assert check.complaint([1e-3], [1e-6], torch.float32, otherwise=True) is not None
    assert check.complaint([float("inf")], [1e-6], torch.float32, otherwise=True) is not None
    assert check.complaint([float("nan")], [1e-6], torch.float32) is not None


def test_a_missing_compile_argument_is_said(monkeypatch):
    subject = Case(tiny.KINDS["tiny"], OBJECTIVES[MAIN], CPU).subject()
    monkeypatch.setattr(steps, "critic_loss", lambda critic, real, fake, *, method: None)
    assert "compile" in steps.reason_missing("one_pass compiled", subject)
    monkeypatch.setattr(steps, "critic_loss", lambda critic, real, fake, *, method, compile: None)
    assert steps.reason_missing("one_pass compiled", subject) is None


def test_memory_is_measured_in_a_process_of_its_own():
    case = Case(tiny.KINDS["tiny"], OBJECTIVES[MAIN], CPU, given_batch=2048)
    rows = suite.run_case(case, dataclasses.replace(QUICK, with_memory=True))
    peaks = {row.implementation: row.peak_bytes for row in rows}
    activations = 2 * 2048 * (4 * 36 + 4 * 36 + 4 * 16) * 4  # of both batches in bytes
    assert peaks["joint"] > activations / 2
    assert peaks["one_pass"] < peaks["joint"]


def test_results_come_back_the_same(bench, tmp_path):
    _, _, results = bench("tiny")
    path = results.save(tmp_path / "again")
    assert load(path) == results
    assert path.name.startswith("penalties-")
    assert json.loads(path.read_text())["suite"] == "penalties"


def test_unknown_critic_is_refused_before_anything_runs(capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(["--critics", "no_such_critic"])
    assert stopped.value.code == 2
    assert "no_such_critic" in capsys.readouterr().err


@pytest.mark.thorough
def test_pytest_benchmark_collects_the_steps():
    command_line = ["-m", "pytest", "benchmarks", "-q", "--benchmark-disable", "-p", "no:cacheprovider"]
    done = subprocess.run([sys.executable, *command_line, "-k", "mlp"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout
