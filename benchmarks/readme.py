"""Writes what README.md and docs/benchmarks.md generate from the registry and benchmarks/results/, and their charts.

    python -m benchmarks.readme [--check]

`--check` changes nothing and exits with 1 where a document or a chart differs from the results.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import comparisons
from benchmarks import results as ops_results
from benchmarks.charts import ops as ops_chart
from benchmarks.charts import penalties as penalties_chart
from benchmarks.charts.picture import shows
from benchmarks.families import works_by_family
from benchmarks.gpu_runs import devices_by_op
from benchmarks.markdown import between, origin
from benchmarks.penalties import results as penalties_results
from benchmarks.penalties.case import MAIN
from benchmarks.penalties.steps import JOINT, ONE_PASS
from benchmarks.report import times
from benchmarks.tables import networks, ops, penalties, registry

ROOT = Path(__file__).resolve().parent.parent
README, BENCHMARKS = Path("README.md"), Path("docs/benchmarks.md")
PICTURES = Path("docs/images/benchmarks")  # all files in there are written, and removed, by this command
FLAGSHIP = PICTURES / "r1-r2-step.png"


@dataclass(frozen=True)
class Picture:
    """A chart: its file below the root, the figures that it shows, and how it is drawn into a file."""

    path: Path
    figures: Any
    draw: Callable[[Path], None]


@dataclass(frozen=True)
class Measured:
    """All results of a folder, the newest first, and the GPUs that each op has run on."""

    ops: list[ops_results.Results]
    penalties: list[penalties_results.Results]
    accelerate: list[comparisons.Comparison]
    spectral_norm: list[comparisons.Comparison]
    gpu: dict[str, list[str]]

    @staticmethod
    def load(folder: Path) -> "Measured":
        return Measured(
            _newest_first(ops_results.load_all(folder)),
            _newest_first(penalties_results.load_all(folder)),
            _newest_first(comparisons.load_all("accelerate", folder)),
            _newest_first(comparisons.load_all("spectral_norm", folder)),
            devices_by_op(folder),
        )


def _newest_first(runs: list[Any]) -> list[Any]:
    return sorted(runs, key=lambda run: run.environment["date"], reverse=True)


def readme(text: str, measured: Measured) -> str:
    """README.md with the chart of the newest penalised steps and the table of ops.

    Raises:
        ValueError: a marker is not there.
    """
    text = between(text, *markers("chart"), [flagship(measured.penalties[0])] if measured.penalties else [])
    return between(text, *markers("ops"), [registry.table(measured.gpu)])


def flagship(results: penalties_results.Results) -> str:
    """The README's chart and, below it, the conditions and the critics on which nothing is gained."""
    slower = []
    for critic, objective in results.works():
        factor = results.over(results.find(critic, objective, JOINT), ONE_PASS)
        if factor is not None and factor < 1:
            slower.append(f"{critic} with {objective} ({times(factor)})")
    losing = f"Where one pass is slower than double backward: {', '.join(slower)}." if slower else ""
    busy = "The machine was busy: the figures are inflated." if results.conditions["busy"] else ""
    caption = " ".join(filter(None, [origin(results.dtype, results.environment), losing, busy]))
    chart = f"![A critic's step without penalties, with double backward and with one pass]({FLAGSHIP})"
    return f"{chart}\n\n<sub>{caption}</sub>"


def benchmarks(text: str, measured: Measured) -> str:
    """docs/benchmarks.md with a section for every machine in each of its parts.

    Raises:
        ValueError: a marker is not there.
    """

    def address(path: Path) -> str:
        return str(path.relative_to(BENCHMARKS.parent))

    parts = {
        "penalties": [penalties.section(run, address(_penalties_picture(run))) for run in measured.penalties],
        "ops": [ops.section(run, [address(chart.path) for chart in _ops_pictures(run)]) for run in measured.ops],
        "accelerate": [networks.accelerated(run) for run in measured.accelerate],
        "spectral-norm": [networks.spectral_norms(run) for run in measured.spectral_norm],
    }
    for name, sections in parts.items():
        text = between(text, *markers(name), sections)
    return text


def pictures(measured: Measured) -> list[Picture]:
    """Every chart of both documents."""
    found = [picture for run in measured.ops for picture in _ops_pictures(run)]
    for run in measured.penalties:
        critics = [critic for critic, objective in run.works() if objective == MAIN]
        found.append(_picture_of_steps(run, critics, _penalties_picture(run)))
    if measured.penalties:
        newest = measured.penalties[0]
        critics = [critic for critic in penalties_chart.FLAGSHIP if critic in newest.critics]
        found.append(_picture_of_steps(newest, critics, FLAGSHIP))
    return found


def _ops_pictures(run: ops_results.Results) -> list[Picture]:
    found = []
    for family, inside in works_by_family(ops_results.works(run.rows)).items():
        path = PICTURES / f"{run.name}-{family.replace(' ', '-')}.png"
        found.append(Picture(path, ops_chart.figures(run, inside), partial(ops_chart.draw, run, inside)))
    return found


def _penalties_picture(run: penalties_results.Results) -> Path:
    return PICTURES / f"{run.name}.png"


def _picture_of_steps(run: penalties_results.Results, critics: list[str], path: Path) -> Picture:
    return Picture(path, penalties_chart.figures(run, critics), partial(penalties_chart.draw, run, critics))


def markers(part: str) -> tuple[str, str]:
    """The comments around a generated part."""
    return f"<!-- {part}:begin -->", f"<!-- {part}:end -->"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readme", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if something is out of date")
    parser.add_argument("--root", type=Path, default=ROOT, help="the folder of README.md (default: this repository)")
    arguments = parser.parse_args(argv)
    root = arguments.root
    measured = Measured.load(root / "benchmarks" / "results")
    charts = pictures(measured)
    stale = []
    for path, render in ((README, readme), (BENCHMARKS, benchmarks)):
        old = (root / path).read_text()
        try:
            new = render(old, measured)
        except ValueError as error:
            print(f"{path}: {error}", file=sys.stderr)
            return 1
        if new != old:
            stale.append(path)
            if not arguments.check:
                (root / path).write_text(new)
    stale += _stale_pictures(root, charts, arguments.check)
    if arguments.check and stale:
        names = ", ".join(str(path) for path in stale)
        print(f"not what the results say, run `python -m benchmarks.readme`: {names}", file=sys.stderr)
    return int(bool(arguments.check and stale))


def _stale_pictures(root: Path, charts: list[Picture], check: bool) -> list[Path]:
    """Charts of other figures and files that are no chart of ours; unless `check`, they are drawn and removed."""
    stale = [chart for chart in charts if not shows(root / chart.path, chart.figures)]
    present = {path.relative_to(root) for path in (root / PICTURES).glob("*")}
    extra = sorted(present - {chart.path for chart in charts})
    if not check:
        for chart in stale:
            chart.draw(root / chart.path)
        for path in extra:
            (root / path).unlink()
    return [chart.path for chart in stale] + extra


if __name__ == "__main__":
    raise SystemExit(main())
