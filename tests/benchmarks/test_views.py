"""README, targets and chart from results that are written by hand here."""

import pytest

from benchmarks import readme, targets
from benchmarks.chart import draw
from benchmarks.penalties import readme as penalties
from benchmarks.results import GRAPH, OK, OUT_OF_MEMORY, UNSUPPORTED, WRONG, Results, Row, load, load_all

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


TEXT = f"# Title\n\nbefore\n\n{readme.BEGIN}\nold\n{readme.END}\n\nafter\n"


def line(text, shape):
    (found,) = [part for part in text.splitlines() if f"`op` {shape}" in part]
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_readme_states_winning_and_losing_rows(results):
    text = readme.render(TEXT, [results])
    assert line(text, "1x1")[1:] == [
        "1.00 ms", "40.0x", "8.00x", "2.00 ms", "15.0x", "10.0x", "3.00 ms", "3.00x", "1/100",
    ]  # fmt: skip
    assert line(text, "2x2")[1:7] == ["2.00 ms", "0.50x", "0.50x", "4.00 ms", "0.25x", "0.25x"]
    assert line(text, "2x2")[-1] == "3.00"


def test_readme_states_no_speed_up_of_what_is_wrong_or_over_what_failed(results):
    cells = line(readme.render(TEXT, [results]), "3x3")
    assert cells[1:4] == ["WRONG", "-", "-"]
    assert cells[4:7] == ["0.500 ms", "eager: out of memory", "2.00x"]


def test_readme_keeps_the_rest_and_is_idempotent(results):
    text = readme.render(TEXT, [results])
    assert text.startswith("# Title\n\nbefore\n")
    assert text.endswith("\n\nafter\n")
    assert "old" not in text
    assert "commit 012345678" in text
    assert readme.render(text, [results]) == text


def test_readme_shows_graph_times_apart(results):
    found = results.rows + rows("1x1", {"forward": (5, 5, 1)}, timer=GRAPH)
    text = readme.render(TEXT, [Results(**{**vars(results), "rows": found})])
    assert readme.TIMERS[GRAPH] in text


def test_readme_without_markers_is_an_error(results):
    with pytest.raises(ValueError, match="benchmarks:begin"):
        readme.render("# Title\n", [results])


def test_readme_command_writes_and_checks(results, tmp_path):
    file = tmp_path / "README.md"
    text = TEXT + f"{penalties.BEGIN}\n{penalties.END}\n"
    file.write_text(text)
    results.save(tmp_path)
    (tmp_path / "another-suite.json").write_text('{"suite": "something else"}')
    arguments = ["--readme", str(file), "--results", str(tmp_path)]
    assert readme.main([*arguments, "--check"]) == 1
    assert file.read_text() == text
    assert readme.main(arguments) == 0
    assert readme.main([*arguments, "--check"]) == 0
    file.write_text(file.read_text().replace("40.0x", "50.0x"))
    assert readme.main([*arguments, "--check"]) == 1


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
    draw(results, path)
    assert path.read_bytes().startswith(b"\x89PNG")
