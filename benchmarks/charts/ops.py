"""The chart of a family of ops: speed-up over eager PyTorch on a log scale, one panel for each pass."""

from pathlib import Path
from typing import Any

from benchmarks.cases import STAGES
from benchmarks.charts.picture import save
from benchmarks.report import STATUS_TEXT, times
from benchmarks.results import CALL, OK, Results, Row, backends

OURS, COMPILE, INK, MUTED = "#2166ac", "#bdbdbd", "#222222", "#757575"
BAR = 0.38  # of the distance between two lines
WIDTH, DPI = 9.6, 100  # inches and dots per inch: 960 pixels


def figures(results: Results, inside: list[tuple[str, str]]) -> list[Any]:
    """All that the chart of these (op, shape) pairs shows."""
    wanted = [row for row in results.rows if (row.op, row.shape) in inside and row.timer == CALL]
    shown = [[row.op, row.shape, row.stage, row.implementation, row.status, row.median_ms] for row in wanted]
    return [results.environment["device"], results.dtype, shown]


def draw(results: Results, inside: list[tuple[str, str]], path: Path) -> None:
    """Writes a PNG with a line for each of the (op, shape) pairs. A bar left of 1 is slower than eager."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = [(op, shape, backend) for op, shape in inside for backend in backends(results.rows, op, shape)]
    figure, panels = pyplot.subplots(
        1, len(STAGES), sharey=True, sharex=True, figsize=(WIDTH, 1.3 + 0.42 * len(lines)), layout="constrained"
    )
    factors = [1.0]
    for panel, stage in zip(panels, STAGES, strict=True):
        for i, (op, shape, backend) in enumerate(lines):
            for implementation, offset, color in ((backend, -BAR / 2, OURS), ("compile", BAR / 2, COMPILE)):
                row = results.find(op, shape, stage, implementation, CALL)
                factor = results.speed_up(row, "eager")
                if factor is not None:
                    panel.barh(i + offset, factor - 1, height=BAR, left=1, color=color)
                    factors.append(factor)
                panel.annotate(
                    _text(results, row, factor), (max(factor or 1, 1), i + offset), xytext=(3, 0),
                    textcoords="offset points", va="center", fontsize=7.5, color=INK if color == OURS else MUTED,
                )  # fmt: skip
        _dress(panel, stage)
    panels[0].set_xlim(min(factors) / 1.3, max(factors) * 6)  # room for the figures at the bars' ends
    panels[0].set_yticks(
        range(len(lines)), [f"{op}\n{shape} ({backend})" for op, shape, backend in lines], fontsize=7.5
    )
    panels[0].invert_yaxis()
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=color) for color in (OURS, COMPILE)]
    figure.legend(handles, ["fastgan", "torch.compile"], loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    figure.suptitle(f"Speed-up over eager PyTorch: {results.environment['device']}, {results.dtype}", fontsize=10)
    save(figure, path, figures(results, inside), DPI)
    pyplot.close(figure)


def _dress(panel: Any, stage: str) -> None:
    panel.axvline(1, color=INK, linewidth=1)
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter(lambda factor, _: f"{factor:g}x")
    panel.set_title(stage, fontsize=9)
    panel.tick_params(axis="y", length=0)
    panel.tick_params(axis="x", labelsize=8, which="both")
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)


def _text(results: Results, row: Row | None, factor: float | None) -> str:
    if factor is not None:
        return times(factor)
    if row is None or row.status == "unsupported":
        return ""
    if row.status != OK:
        return STATUS_TEXT[row.status]
    eager = results.other(row, "eager")
    return f"eager: {STATUS_TEXT.get(eager.status, '-')}" if eager else ""
