"""The chart: speed-up over eager of every op and shape, one panel per stage, on a log scale with a line at 1."""

from pathlib import Path

from benchmarks.cases import STAGES
from benchmarks.report import STATUS_TEXT, times
from benchmarks.results import CALL, OK, Results, Row, backends, works

OURS, COMPILE, INK, MUTED = "#2166ac", "#bdbdbd", "#222222", "#757575"
BAR = 0.38  # of the distance between two lines


def draw(results: Results, path: Path) -> None:
    """Writes a PNG. A bar that ends left of the line is slower than eager."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = [(op, shape, backend) for op, shape in works(results.rows) for backend in backends(results.rows, op, shape)]
    figure, panels = pyplot.subplots(
        1, len(STAGES), sharey=True, sharex=True, figsize=(13, 1.6 + 0.55 * len(lines)), layout="constrained"
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
                anchor = max(factor or 1, 1)
                panel.annotate(
                    _text(results, row, factor), (anchor, i + offset), xytext=(4, 0), textcoords="offset points",
                    va="center", fontsize=9, color=INK if color == OURS else MUTED,
                )  # fmt: skip
        panel.axvline(1, color=INK, linewidth=1)
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter(lambda factor, _: f"{factor:g}x")
        panel.set_title(stage, fontsize=11)
        panel.tick_params(axis="y", length=0)
        for side in ("top", "right", "left"):
            panel.spines[side].set_visible(False)
    panels[0].set_xlim(min(factors) / 1.3, max(factors) * 4)  # room for the figures at the bars' ends
    panels[0].set_yticks(range(len(lines)), [f"{op}\n{shape} ({backend})" for op, shape, backend in lines], fontsize=9)
    panels[0].invert_yaxis()
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=color) for color in (OURS, COMPILE)]
    figure.legend(handles, ["fastgan", "torch.compile"], loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle(f"Speed-up over eager PyTorch: {results.environment['device']}, {results.dtype}", fontsize=12)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _text(results: Results, row: Row | None, factor: float | None) -> str:
    if factor is not None:
        return times(factor)
    if row is None or row.status == "unsupported":
        return ""
    if row.status != OK:
        return STATUS_TEXT[row.status]
    eager = results.other(row, "eager")
    return f"eager: {STATUS_TEXT.get(eager.status, '-')}" if eager else ""
