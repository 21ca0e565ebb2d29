"""The command `python -m benchmarks.readme`: the documents and charts that it writes, and its check."""

import json
import shutil

import pytest

from benchmarks import readme
from benchmarks.comparisons import Comparison
from tests.benchmarks import tiny

pytest.importorskip("matplotlib")


def text(*parts):
    return "# Title\n\n" + "\n\n".join("{}\nold\n{}".format(*readme.markers(part)) for part in parts) + "\n\nafter\n"


def timing(ms):
    return {"median_ms": ms, "p20_ms": ms, "p80_ms": ms}


@pytest.fixture
def root(tmp_path):
    """A repository with the two documents and results of the penalised step and of the networks."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(text("chart", "ops"))
    (tmp_path / "docs" / "benchmarks.md").write_text(text("penalties", "ops", "accelerate", "spectral-norm"))
    folder = tmp_path / "benchmarks" / "results"
    tiny.results("dcgan-32", "tiny").save(folder)
    row = {"critic": "SNGAN", "batch": 2, "step": "hinge", "torch.nn": timing(30.0), "accelerated": timing(20.0)}
    Comparison("accelerate", tiny.ENVIRONMENT, False, 1.0, [row]).save(folder)
    stages = ("forward", "layer by layer", "forward+backward")
    times = {"parametrizations": 4.0, "hooks": 3.0, "fastgan": 1.5}
    row = {"network": "small", "parameters": 1e6}
    row.update({f"{kind} {stage}": timing(ms) for kind, ms in times.items() for stage in stages})
    Comparison("spectral_norm", tiny.ENVIRONMENT, True, 1.0, [row]).save(folder)
    (folder / "another-suite.json").write_text('{"suite": "something else"}')
    return tmp_path


def run(root, *arguments):
    return readme.main(["--root", str(root), *arguments])


def test_it_writes_what_its_check_then_accepts(root):
    before = (root / "README.md").read_text()
    assert run(root, "--check") == 1
    assert (root / "README.md").read_text() == before
    assert run(root) == 0
    assert run(root, "--check") == 0


def test_it_keeps_what_is_outside_of_the_markers(root):
    run(root)
    for path in (readme.README, readme.BENCHMARKS):
        written = (root / path).read_text()
        assert written.startswith("# Title\n\n")
        assert written.endswith("\n\nafter\n")
        assert "old" not in written


def test_it_states_the_figures_of_every_suite(root):
    run(root)
    written = (root / readme.BENCHMARKS).read_text()
    assert "| tiny, 4, R1+R2 | 10.0 ms | 13.0 ms | 1.30x |" in written
    assert "| SNGAN, 2 | hinge | 30.0 ms | 20.0 ms | 1.50x |" in written
    assert "| small, 1.0 M, forward | 4.00 ms | 3.00 ms | 1.50 ms | 2.00x |" in written
    assert "the figures are inflated" in written
    assert "No results yet: `make bench` writes them." in written  # the ops


def test_the_check_notices_another_figure_in_a_document(root, capsys):
    run(root)
    path = root / readme.BENCHMARKS
    path.write_text(path.read_text().replace("1.30x", "1.20x"))
    assert run(root, "--check") == 1
    assert "docs/benchmarks.md" in capsys.readouterr().err


def test_the_check_notices_a_chart_of_other_figures_or_none_and_files_that_are_no_charts(root):
    run(root)
    folder = root / readme.PICTURES
    shutil.copy(folder / "penalties-a-processor-2-cores.png", root / readme.FLAGSHIP)
    assert run(root, "--check") == 1
    assert run(root) == 0
    (root / readme.FLAGSHIP).unlink()
    assert run(root, "--check") == 1
    assert run(root) == 0
    (folder / "old.png").write_text("")
    assert run(root, "--check") == 1
    assert run(root) == 0
    assert not (folder / "old.png").exists()
    assert run(root, "--check") == 0


def test_each_machine_has_a_section_and_the_readme_shows_the_newest(root):
    results = tiny.results("dcgan-32", "resnet-32")
    newer = {"device": "Another, 8 cores", "slug": "another-8-cores", "date": "2026-02-03T00:00:00+00:00"}
    results.environment.update(newer)
    results.save(root / "benchmarks" / "results")
    run(root)
    written = (root / readme.BENCHMARKS).read_text()
    assert written.index("### Another, 8 cores") < written.index("### A Processor, 2 cores")
    assert "2026-02-03" in (root / readme.README).read_text()
    assert "2026-01-02" not in (root / readme.README).read_text()


def test_a_document_without_its_markers_is_an_error(root, capsys):
    (root / "README.md").write_text("# Title\n")
    assert run(root) == 1
    assert "README.md: expected <!-- chart:begin -->" in capsys.readouterr().err


def test_results_of_the_networks_survive_their_file(root):
    from benchmarks.comparisons import load_all

    folder = root / "benchmarks" / "results"
    (found,) = load_all("spectral_norm", folder)
    path = found.save(root / "elsewhere.json")
    assert json.loads(path.read_text())["suite"] == "spectral_norm"
    assert found.save(folder).name == "spectral-norm-a-processor-2-cores.json"
