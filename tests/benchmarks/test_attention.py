"""The benchmark of attention: its table, its file, and that it times nothing that is wrong."""

import json

import pytest

from benchmarks import attention, memory
from fastgan.ops.attention.reference import attention_reference


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No compiler and no processes."""
    monkeypatch.setattr(attention.torch, "compile", lambda function: function)
    monkeypatch.setattr(memory, "in_fresh_process", lambda function, *arguments: 3 << 20)


def test_prints_a_row_for_each_stage_and_writes_a_file(tmp_path, capsys):
    out = tmp_path / "attention.json"
    assert attention.main(["--shapes", "1x2x32x8", "--budget", "0.05", "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    assert all(stage in printed for stage in attention.STAGES)
    (row,) = json.loads(out.read_text())["rows"]
    for stage in attention.STAGES:
        assert row[f"fastgan {stage}"]["median_ms"] > 0
        assert row[f"composed {stage} bytes"] == 3 << 20
        assert row[f"speed-up {stage}"] > 0


def test_runs_alone_where_the_matrices_would_not_fit(monkeypatch):
    monkeypatch.setattr(attention, "LARGEST_MATRIX", 1)
    assert set(attention.kinds(attention.STAGES[1], 32 * 32)) == {"fastgan"}
    assert set(attention.kinds(attention.STAGES[0], 32 * 32)) == {"fastgan", "SDPA"}


def test_times_nothing_that_is_wrong(monkeypatch):
    monkeypatch.setattr(attention, "attention", lambda *tensors: 1.001 * attention_reference(*tensors))
    with pytest.raises(SystemExit, match="fastgan is off by"):
        attention.main(["--shapes", "1x1x32x8", "--budget", "0.05"])
