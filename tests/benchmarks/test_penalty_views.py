"""Table, chart and targets of the penalised step, from results that are written by hand."""

import pytest

from benchmarks import readme, targets
from benchmarks.charts import penalties as chart
from benchmarks.penalties import targets as penalty_targets
from benchmarks.penalties.critics import CRITICS
from benchmarks.penalties.results import load_all
from benchmarks.results import GRAPH, OUT_OF_MEMORY, WRONG
from benchmarks.tables import penalties
from tests.benchmarks import tiny


def cells(text, critic):
    (found,) = [part for part in text.splitlines() if part.startswith(f"| {critic}, ")]
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_table_states_the_figures():
    text = penalties.section(tiny.results("tiny"))
    assert cells(text, "tiny") == [
        "tiny, 4, R1+R2", "10.0 ms", "13.0 ms", "1.30x", "1.04x", "2.31x", "3.08x", "0.50", "6 + 10 / 6 + 10 / 6 + 10",
    ]  # fmt: skip
    assert "commit 012345678" in text


def test_table_states_no_ratio_of_what_is_wrong_or_over_what_failed():
    found = [
        *tiny.rows("wrong", times={**tiny.TIMES, "one_pass": WRONG}),
        *tiny.rows("large", times={**tiny.TIMES, "joint": OUT_OF_MEMORY}),
    ]
    text = penalties.section(tiny.results("wrong", "large", found=found))
    assert cells(text, "wrong")[2:8] == ["WRONG", "-", "-", "-", "-", "-"]
    assert cells(text, "large")[2:8] == ["13.0 ms", "1.30x", "1.04x", "out of memory", "3.08x", "-"]


def test_graph_times_are_shown_apart():
    results = tiny.results("tiny")
    results.rows.extend([type(row)(**{**vars(row), "timer": GRAPH}) for row in results.rows])
    assert penalties.TIMERS[GRAPH] in penalties.section(results)


def test_chart_is_a_picture_of_800_by_400(tmp_path):
    pytest.importorskip("matplotlib")
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "chart.png"
    chart.draw(tiny.results("a", "b", "c", "d"), ("a", "b", "c", "d"), path)
    assert image.open(path).size == (800, 400)


def test_the_readme_names_critics_on_which_one_pass_is_slower():
    found = tiny.rows("gains") + tiny.rows("loses", times={**tiny.TIMES, "one_pass": 60.0})
    text = readme.flagship(tiny.results("gains", "loses", found=found))
    assert "slower than double backward: loses with R1+R2 (0.50x)." in text
    assert "slower" not in readme.flagship(tiny.results("gains"))


def test_round_trip(tmp_path):
    results = tiny.results("tiny")
    results.save(tmp_path)
    assert load_all(tmp_path) == [results]


def test_targets_pass_and_fail(capsys):
    results = tiny.results("tiny", found=tiny.rows("tiny") + tiny.rows("bad", times={**tiny.TIMES, "one_pass": WRONG}))
    passing = (
        penalty_targets.price("tiny", 1.45),
        penalty_targets.gain("tiny", "joint", 2.3),
        penalty_targets.gain("tiny", "separate", 3),
        penalty_targets.memory("tiny", 0.5),
    )
    failing = (
        penalty_targets.price("tiny", 1.25),
        penalty_targets.gain("tiny", "joint", 2.4),
        penalty_targets.memory("tiny", 0.45),
        penalty_targets.price("bad", 100),
    )
    assert penalty_targets.check(results, passing)
    for target in failing:
        assert not penalty_targets.check(results, (target,))
    printed = capsys.readouterr().out.splitlines()
    assert [text.split()[0] for text in printed] == ["pass"] * 4 + ["FAIL"] * 4
    assert "not measured" in printed[-1]


def test_targets_are_of_critics_that_are_benchmarked():
    for found in penalty_targets.TARGETS.values():
        assert {target.text.split()[0] for target in found} <= set(CRITICS)


@pytest.mark.parametrize("device_type", ["cpu", "cuda"])
def test_targets_command_reads_a_file(tmp_path, capsys, device_type):
    names = [name for name, kind in CRITICS.items() if kind.convolutional]
    times = {**tiny.TIMES, "joint": 60.0, "plain compiled": 8.0, "one_pass compiled": 11.0}
    peaks = {**tiny.PEAKS, "plain compiled": 50, "one_pass compiled": 50}
    found = [row for name in names for row in tiny.rows(name, times=times, peaks=peaks)]
    path = tiny.results(*names, device_type=device_type, found=found).save(tmp_path)
    assert targets.main([str(path)]) == 0
    found = [row for row in found if row.critic != "resnet-64"]
    path = tiny.results(*names, device_type=device_type, found=found).save(tmp_path)
    assert targets.main([str(path)]) == 1
    printed = capsys.readouterr().out
    assert "resnet-64 R1+R2, joint over one_pass: at least" in printed
    assert "not measured" in printed
