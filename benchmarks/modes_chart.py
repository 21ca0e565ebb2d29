"""The chart of the mode coverage: every method's seeds and their mean. See benchmarks/modes.py."""

import statistics
from pathlib import Path

from benchmarks.runs import Run
from fastgan.data import MIXTURES
from fastgan.toys.plane_recipes import PLANE_RECIPES

COLOR = "#2166ac"


def draw(runs: list[Run], png: Path) -> None:
    """For each mixture two panels, modes and high-quality samples: for each method a ring for every seed, one beside
    the other, and a bar at their mean."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    methods = [m for m in PLANE_RECIPES if any(r["method"] == m for r in runs)]
    figure, grid = pyplot.subplots(
        len(MIXTURES),
        2,
        figsize=(9, 0.7 + 0.28 * len(MIXTURES) * (len(methods) + 2)),
        sharey=True,
        layout="constrained",
    )
    for row, mixture in zip(grid, MIXTURES, strict=True):
        of = len(MIXTURES[mixture]().means)
        for axes, name, times, best in ((row[0], "modes", 1, of), (row[1], "high_quality", 100, 100)):
            for y, method in enumerate(methods):
                values = [times * r[name] for r in runs if (r["mixture"], r["method"]) == (mixture, method)]
                if values:
                    beside = [y + 0.09 * (i - (len(values) - 1) / 2) for i in range(len(values))]
                    axes.plot(values, beside, "o", color=COLOR, markersize=4, markerfacecolor="none")
                    axes.plot(statistics.mean(values), y, "|", color=COLOR, markersize=14, markeredgewidth=2.5)
            axes.axvline(best, color="gray", linewidth=0.8, linestyle="--")
            axes.set(xlim=(-0.03 * best, 1.06 * best), ylim=(len(methods) - 0.5, -0.5))
            axes.grid(axis="y", linewidth=0.3)
            axes.set_xlabel(
                f"modes of the {mixture}, of {of}" if name == "modes" else "samples within 3 deviations of a mode, %"
            )
        row[0].set_yticks(range(len(methods)), methods)
    figure.savefig(png, dpi=110)
    pyplot.close(figure)
