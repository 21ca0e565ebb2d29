"""The benchmark of the training step states a speed only after its check of the gradients."""

import io

import pytest
import torch
from rich.console import Console

from benchmarks import train_step


def printed(table):
    text = io.StringIO()
    Console(file=text, width=100).print(table)
    return text.getvalue()


@pytest.mark.parametrize("recipe", ["digits-dcgan", "digits-resnet"])
def test_right_gradients_are_timed(recipe):
    result = train_step.run(recipe, 16, 3, torch.device("cpu"))
    assert [one["player"] for one in result["accuracy"]] == ["critic", "generator"]
    assert all(one["passed"] for one in result["accuracy"])
    for side in ("auto", "reference"):
        speed = result["speed"][side]
        assert 0 < speed["p20"] <= speed["median"] <= speed["p80"]
    assert min(result["peak"].values()) > 0
    ratio = result["speed"]["reference"]["median"] / result["speed"]["auto"]["median"]
    assert f"{ratio:.2f}" in printed(train_step.table_of([result]))


def test_wrong_gradients_get_no_ratio(monkeypatch):
    right = train_step.gradients

    def slightly_wrong(run, batch, backend, dtype):
        found = right(run, batch, backend, dtype)
        if backend == "auto":
            found["critic"] = found["critic"] * (1 + 1e-4)
        return found

    monkeypatch.setattr(train_step, "gradients", slightly_wrong)
    result = train_step.run("digits-dcgan", 16, 3, torch.device("cpu"))
    assert [one["passed"] for one in result["accuracy"]] == [False, True]
    assert "speed" not in result
    assert "gradients differ" in printed(train_step.table_of([result]))
