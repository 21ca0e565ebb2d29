"""Tables, targets and charts of the ops, from results that are written by hand here."""

import json

import pytest

from benchmarks import targets
from benchmarks.charts import ops as chart
from benchmarks.families import FAMILIES, works_by_family
from benchmarks.gpu_runs import devices_by_op
from benchmarks.results import GRAPH, OK, OUT_OF_MEMORY, UNSUPPORTED, WRONG, Results, Row, load, load_all, works
from benchmarks.tables import ops, registry

MEGABYTES = 1 << 20


def rows(shape, times, peaks=(100 * MEGABYTES, 1 * MEGABYTES), timer="call"):
    """times: stage -> milliseconds of (eager, compile, cpu); a status in place of a time."""
    found = []
    for stage, values in times.items():
        for name, value in zip(("eager", "compile", "cpu"), values, strict=True):
            peak = peaks[name == "cpu"]
            if isinstance(value, str):
                found.append(Row("op", shape, stage, name, timer, status=value, peak_bytes=peak))
            else:
                found.append(
                    Row("op", shape, stage, name, timer, median_ms=value, p20_ms=value, p80_ms=value, peak_bytes=peak)
                )
    return found


@pytest.fixture
def results():
    environment = {
        "device": "A Processor, 2 cores", "device_type": "cpu", "slug": "a-processor-2-cores", "cores": 2, "threads": 2,
        "load_average": 0.0, "date": "2026-01-02T03:04:05+00:00", "commit": "0123456789abcdef", "dirty": False,
        "versions": {"python": "3", "torch": "2", "triton": None, "fastgan": "0", "cuda": None, "system": "Linux"},
        "compiler_flags": "-O3", "instruction_set": "avx2", "torch_instruction_set": "AVX2",
    }  # fmt: skip
    ceiling = {"cache_bytes": 1, "memory_bytes_per_s": 1e10, "cache_bytes_per_s": 1e11, "flops_per_s": 1e11}
    conditions = {"busy": False, "timing": "Medians.", "memory_resolution_bytes": 65536, "seconds": 1.0}
    winning = rows("1x1", {"forward": (40, 8, 1), "forward+backward": (30, 20, 2), "double backward": (9, "-", 3)})
    losing = rows("2x2", {"forward": (1, 1, 2), "forward+backward": (1, 1, 4)}, peaks=(MEGABYTES, 3 * MEGABYTES))
    wrong = rows("3x3", {"forward": (1, 1, WRONG), "forward+backward": (OUT_OF_MEMORY, 1, 0.5)})
    found = [Row(**{**vars(r), "status": UNSUPPORTED}) if r.status == "-" else r for r in winning + losing + wrong]
    return Results("float32", environment, ceiling, conditions, found)


def line(text, shape):
    (found,) = [part for part in text.splitlines() if f"`op` {shape}" in part]
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_tables_state_winning_and_losing_rows(results):
    text = ops.section(results)
    assert line(text, "1x1")[1:] == [
        "1.00 ms", "40.0x", "8.00x", "2.00 ms", "15.0x", "10.0x", "3.00 ms", "3.00x", "1/100",
    ]  # fmt: skip
    assert line(text, "2x2")[1:7] == ["2.00 ms", "0.50x", "0.50x", "4.00 ms", "0.25x", "0.25x"]
    assert line(text, "2x2")[-1] == "3.00"


def test_tables_state_no_speed_up_of_what_is_wrong_or_over_what_failed(results):
    cells = line(ops.section(results), "3x3")
    assert cells[1:4] == ["WRONG", "-", "-"]
    assert cells[4:7] == ["0.500 ms", "eager: out of memory", "2.00x"]


def test_graph_times_are_shown_apart(results):
    found = results.rows + rows("1x1", {"forward": (5, 5, 1)}, timer=GRAPH)
    text = ops.section(Results(**{**vars(results), "rows": found}))
    assert ops.TIMERS[GRAPH] in text


def test_a_section_says_where_and_how_it_was_measured(results):
    text = ops.section(results)
    assert text.startswith("### A Processor, 2 cores\n")
    assert "commit 012345678" in text
    assert "busy" not in text
    results.conditions["busy"] = True
    assert "the figures are inflated" in ops.section(results)


def test_every_registered_op_has_one_family():
    from fastgan.registry import OPS

    assert sorted(op for family in FAMILIES.values() for op in family) == sorted(OPS)


def test_ops_of_no_family_are_shown_too(results):
    assert list(works_by_family([("op", "1x1"), ("conv3x3", "a")])) == ["convolutions", "others"]
    assert "#### Others" in ops.section(results)


def test_the_readme_table_says_which_ops_have_run_on_a_gpu():
    from fastgan.registry import OPS

    lines = registry.table({"bias_act": ["A GPU"]}).splitlines()[2:]
    cells = dict(zip(OPS, [text.strip("| ").split(" | ")[-1] for text in lines], strict=True))
    assert (cells["bias_act"], cells["upfirdn2d"], cells["conv3x3"]) == ("A GPU", "no", "-")


def test_an_op_has_run_on_a_gpu_only_if_its_own_backend_was_right_there(results, tmp_path):
    results.save(tmp_path)  # of a CPU
    found = [Row("right", "1x1", "forward", "triton"), Row("wrong", "1x1", "forward", "cuda", status=WRONG)]
    environment = {**results.environment, "device": "A GPU", "device_type": "cuda", "slug": "a-gpu"}
    Results("float32", environment, {}, {}, [*found, Row("eager", "1x1", "forward", "eager")]).save(tmp_path)
    assert devices_by_op(tmp_path) == {"right": ["A GPU"]}
    rows = [{"op": "other", "implementation": "cuda", "status": "ok"}, {"critic": "mlp", "status": "ok"}]
    data = {"suite": "gpu", "device": "B GPU", "stages": {"bandwidth": [{"name": "other", "rows": rows}]}}
    (tmp_path / "gpu-b").mkdir()
    (tmp_path / "gpu-b" / "results.json").write_text(json.dumps(data))
    assert devices_by_op(tmp_path) == {"right": ["A GPU"], "other": ["B GPU"]}


def test_round_trip(results, tmp_path):
    assert load(results.save(tmp_path)) == results
    assert load_all(tmp_path) == [results]


def test_targets_pass_and_fail(results, capsys):
    reached = targets.speed("op", "1x1", "forward", "cpu", "eager", 25)
    missed = targets.speed("op", "1x1", "forward", "cpu", "eager", 50)
    wrong = targets.speed("op", "3x3", "forward", "cpu", "eager", 0.1)
    memory = targets.memory("op", "1x1", "forward", "cpu", 50)
    assert targets.check(results, (reached, memory))
    assert not targets.check(results, (reached, missed))
    assert not targets.check(results, (wrong,))
    printed = capsys.readouterr().out.splitlines()
    assert [text.split()[0] for text in printed] == ["pass", "pass", "pass", "FAIL", "FAIL"]
    assert "not measured" in printed[-1]


def test_targets_are_of_shapes_that_are_benchmarked():
    from fastgan.registry import OPS

    labels = {shape.label for shape in OPS["minibatch_discrimination"].bench}
    assert all(any(label in target.text for label in labels) for target in targets.CPU_TARGETS)


def test_a_wrong_row_has_no_speed_up_even_with_a_time(results):
    row = Row("op", "1x1", "forward", "triton", status=WRONG, median_ms=0.1)
    assert results.speed_up(row, "eager") is None
    assert results.speed_up(Row("op", "1x1", "forward", "triton", status=OK, median_ms=4), "eager") == 10


def test_chart_is_a_picture(results, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "images" / "chart.png"
    chart.draw(results, works(results.rows), path)
    assert path.read_bytes().startswith(b"\x89PNG")
