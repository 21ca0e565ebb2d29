"""The stacked digits' benchmark: its bookkeeping, and a run of two steps from end to end."""

import json
import sys

import pytest

from benchmarks import stacked


def run(method="dcgan", seed=0, steps=100, **changes):
    count = {"modes": 990, "kl": 0.05, "confident": 0.75}
    row = {
        "method": method,
        "seed": seed,
        "steps": steps,
        "seconds": 90.0,
        "samples": count,
        "data": count | {"kl": 0.01},
    }
    return {**row, **changes}


def test_table_has_a_row_per_run_and_the_data_last():
    lines = stacked.table([run("R1 + R2, relativistic"), run(seconds=30.0)]).splitlines()
    assert lines[2] == "| dcgan | 990 | 0.050 | 75.0% | 100 | 0.5 |"
    assert lines[3] == "| R1 + R2, relativistic | 990 | 0.050 | 75.0% | 100 | 1.5 |"
    assert lines[4] == "| real digits | 990 | 0.010 | 75.0% |  |  |"
    assert len(stacked.table([]).splitlines()) == 2


@pytest.mark.usefixtures("one_thread")
def test_a_run_is_kept_and_not_repeated(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("fastgan.metrics.classifier.EPOCHS", 1)
    monkeypatch.setattr(stacked, "STACKED_SAMPLES", 200)
    page = tmp_path / "page.md"
    page.write_text(f"before\n{stacked.BEGIN}\n{stacked.END}\nafter\n")
    for arguments in (["--methods", "R1 + R2, relativistic", "--steps", "2"],) * 2 + (["--table", str(page)],):
        monkeypatch.setattr(sys, "argv", ["stacked", "--json", str(tmp_path / "runs.json"), *arguments])
        stacked.main()
    (kept,) = json.loads((tmp_path / "runs.json").read_text())["runs"]
    assert (kept["recipe"], kept["penalty"], kept["steps"], kept["images"]) == ("digits-resnet", "r1:1,r2:1", 2, 200)
    assert 1 <= kept["samples"]["modes"] <= 200
    assert stacked.table([kept]) in page.read_text()
    assert page.read_text().endswith("after\n")
