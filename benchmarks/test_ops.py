"""The ops on the CPU through pytest-benchmark: `pytest benchmarks`, for its statistics and saved comparisons.

The same cases as `python -m benchmarks`; each is checked against float64 before it is timed.
"""

from functools import cache

import pytest
import torch

from benchmarks import correctness
from benchmarks.cases import STAGES, Case, cases, run, supports

CPU = torch.device("cpu")


def _parameters() -> list:
    return [
        pytest.param(case, stage, name, id=f"{case.spec.name}-{case.shape.label}-{stage}-{name}".replace(" ", "_"))
        for case in cases(CPU, torch.float32)
        for stage in STAGES
        for name in case.implementations()
        if supports(name, stage)
    ]


@cache
def _truth(case: Case, stage: str) -> tuple[list, list]:
    """The float64 results of a stage, and eager's errors against them."""
    inputs = case.inputs()
    truth = correctness.exact(case, inputs, stage)
    return truth, correctness.errors(run(case.reference, inputs, stage), truth)


@pytest.mark.benchmark(min_rounds=3, max_time=0.5)
@pytest.mark.parametrize(("case", "stage", "implementation"), _parameters())
def test_op(benchmark, case, stage, implementation):
    inputs, function = case.inputs(), case.function(implementation)
    truth, eager = _truth(case, stage)
    if implementation != "eager":
        _, complaint = correctness.judge(implementation, function, case, inputs, stage, truth, eager)
        assert complaint is None
    benchmark.group = f"{case.spec.name} {case.shape.label}, {stage}"
    benchmark(run, function, inputs, stage)
