"""The benchmark of the training step claims a speed only after its gradient check."""

import importlib.util
import io
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

SOURCE = Path(__file__).parents[2] / "benchmarks" / "train_step.py"


@pytest.fixture
def benchmark_module(monkeypatch):
    spec = importlib.util.spec_from_file_location("train_step_benchmark", SOURCE)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def printed(table):
    text = io.StringIO()
    Console(file=text, width=100).print(table)
    return text.getvalue()


@pytest.mark.parametrize("preset", ["digits-dcgan", "digits-resnet"])
def test_right_gradients_are_timed(benchmark_module, preset):
    result = benchmark_module.run(preset, 16, 3, torch.device("cpu"))
    assert [one["player"] for one in result["accuracy"]] == ["critic", "generator"]
    assert all(one["passed"] for one in result["accuracy"])
    for side in ("auto", "reference"):
        speed = result["speed"][side]
        assert 0 < speed["p20"] <= speed["median"] <= speed["p80"]
    ratio = result["speed"]["reference"]["median"] / result["speed"]["auto"]["median"]
    assert f"{ratio:.2f}" in printed(benchmark_module.table_of([result]))


def test_wrong_gradients_get_no_ratio(benchmark_module, monkeypatch):
    right = benchmark_module.gradients

    def slightly_wrong(state, loss, images, latents, backend, dtype):
        found = right(state, loss, images, latents, backend, dtype)
        if backend == "auto":
            found["critic"] = found["critic"] * (1 + 1e-4)
        return found

    monkeypatch.setattr(benchmark_module, "gradients", slightly_wrong)
    result = benchmark_module.run("digits-dcgan", 16, 3, torch.device("cpu"))
    assert [one["passed"] for one in result["accuracy"]] == [False, True]
    assert "speed" not in result
    assert "gradients differ" in printed(benchmark_module.table_of([result]))
