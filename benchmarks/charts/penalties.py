"""The chart of the critic's step with R1 and R2: each way to take it, relative to the step without penalties."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.charts.picture import save
from benchmarks.penalties.case import MAIN
from benchmarks.penalties.results import Results
from benchmarks.penalties.steps import JOINT, ONE_PASS, PLAIN
from benchmarks.report import milliseconds

FLAGSHIP = ("dcgan-32", "resnet-32", "resnet-64", "r3gan-32")
WAYS = {
    PLAIN: ("PyTorch, no penalties", "#bdbdbd"),
    JOINT: ("PyTorch, R1 + R2 by double backward", "#d6604d"),
    ONE_PASS: ("fastgan, R1 + R2 in one pass", "#2166ac"),
}
HEIGHT, DPI = 4.0, 100
INK = "#222222"


def figures(results: Results, critics: Sequence[str]) -> list[Any]:
    """All that the chart of these critics shows."""
    shown = [
        [critic, results.critics[critic]["batch"], way, _over_plain(results, critic, way), _ms(results, critic, way)]
        for critic in critics
        for way in WAYS
    ]
    return [results.environment["device"], results.dtype, shown]


def draw(results: Results, critics: Sequence[str], path: Path) -> None:
    """Writes a PNG, 800 x 400 pixels for up to 5 critics: for each a group of bars with the milliseconds above."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(max(8.0, 1.55 * len(critics)), HEIGHT), layout="constrained")
    width = 0.8 / len(WAYS)
    for k, (way, (label, color)) in enumerate(WAYS.items()):
        for i, critic in enumerate(critics):
            ratio, x = _over_plain(results, critic, way), i + (k - (len(WAYS) - 1) / 2) * width
            axes.bar(x, ratio or 0, width=0.92 * width, color=color, label=label if i == 0 else None)
            text = milliseconds(_ms(results, critic, way)) if ratio else "no result"
            axes.annotate(
                text, (x, ratio or 0), xytext=(0, 3), textcoords="offset points", ha="center", fontsize=8, color=INK
            )
    axes.axhline(1, color=INK, linewidth=0.8, linestyle=":")
    batches = [f"{critic}\nbatch {results.critics[critic]['batch']}" for critic in critics]
    axes.set_xticks(range(len(critics)), batches, fontsize=9)
    axes.set_ylabel("time, relative to no penalties")
    axes.set_title(f"One step of the critic: {results.environment['device']}, {results.dtype}", fontsize=10, loc="left")
    axes.tick_params(axis="x", length=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.legend(loc="outside lower center", ncols=len(WAYS), frameon=False, fontsize=8.5)
    save(figure, path, figures(results, critics), DPI)
    pyplot.close(figure)


def _over_plain(results: Results, critic: str, way: str) -> float | None:
    return results.over(results.find(critic, MAIN, way), PLAIN)


def _ms(results: Results, critic: str, way: str) -> float | None:
    row = results.find(critic, MAIN, way)
    return row.median_ms if row else None
