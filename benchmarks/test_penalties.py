"""The penalised step of small critics through pytest-benchmark; checked against float64 before it is timed."""

import pytest
import torch

from benchmarks.penalties import check, steps
from benchmarks.penalties.case import MAIN, OBJECTIVES, Case
from benchmarks.penalties.critics import CRITICS

CPU = torch.device("cpu")
NAMES = (steps.PLAIN, steps.JOINT, steps.SEPARATE, steps.LEAN, steps.ONE_PASS)


@pytest.mark.benchmark(min_rounds=3, max_time=0.5)
@pytest.mark.parametrize("implementation", NAMES)
@pytest.mark.parametrize("critic", ["mlp", "dcgan-32"])
def test_step(benchmark, critic, implementation):
    subject = Case(CRITICS[critic], OBJECTIVES[MAIN], CPU).subject()
    step = steps.STEPS[implementation]
    truth = check.gradients(steps.STEPS[step.truth].run, subject.double())
    known = check.errors(check.gradients(steps.STEPS[step.yardstick].run, subject), truth)
    found = check.errors(check.gradients(step.run, subject), truth)
    assert check.complaint(found, known, torch.float32) is None
    benchmark.group = f"penalised step, {critic}, {MAIN}"
    benchmark(check.take, step.run, subject)
