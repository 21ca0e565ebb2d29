"""Pictures of the mode coverage: all methods as points with error bars, and the samples of some as clouds.

python -m benchmarks.modes_pictures --chart docs/images/modes.png        # from the results of benchmarks.modes
python -m benchmarks.modes_pictures --samples docs/images/samples.png    # trains: minutes
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

from benchmarks.modes import Run, read, up_to_date
from benchmarks.results import FOLDER
from fastgan.toys.mixtures import MIXTURES
from fastgan.toys.plane import PlaneGAN
from fastgan.toys.plane_recipes import PLANE_RECIPES

SHOWN = ("plain", "minibatch discrimination", "WGAN-GP", "R1 + R2, relativistic")
"""Methods whose samples are drawn."""
COLOR, DATA = "#2166ac", "#d6604d"


def chart(runs: list[Run], png: Path) -> None:
    """For each mixture two panels, modes and high-quality samples: a point for each method, mean ± deviation."""
    pyplot = _pyplot()
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
                    deviation = statistics.stdev(values) if len(values) > 1 else 0
                    axes.errorbar(statistics.mean(values), y, xerr=deviation, fmt="o", color=COLOR, capsize=3)
            axes.axvline(best, color="gray", linewidth=0.8, linestyle="--")
            axes.set(xlim=(-0.03 * best, 1.06 * best), ylim=(len(methods) - 0.5, -0.5))
            axes.grid(axis="y", linewidth=0.3)
            axes.set_xlabel(
                f"modes of the {mixture}, of {of}" if name == "modes" else "samples within 3 deviations of a mode, %"
            )
        row[0].set_yticks(range(len(methods)), methods)
    figure.savefig(png, dpi=110)
    pyplot.close(figure)


def samples(png: Path) -> None:
    """For each mixture and some methods 2,500 samples of a run with seed 0, over the modes."""
    pyplot = _pyplot()
    figure, grid = pyplot.subplots(
        len(MIXTURES), len(SHOWN), figsize=(2.6 * len(SHOWN), 2.8 * len(MIXTURES)), layout="constrained"
    )
    for row, mixture in zip(grid, MIXTURES, strict=True):
        for axes, method in zip(row, SHOWN, strict=True):
            gan = PlaneGAN(MIXTURES[mixture](), PLANE_RECIPES[method], seed=0)
            gan.train(gan.recipe.steps)
            axes.plot(*gan.mixture.means.T, "o", color=DATA, markersize=9, fillstyle="none")
            axes.plot(*gan.samples(2500).T, ".", color=COLOR, markersize=1.5)
            found, limit = gan.coverage(), 1.35 * gan.mixture.means.abs().max().item()
            axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xticks=[], yticks=[])
            axes.set_title(f"{method}\n{found.modes} of {found.of}, {found.high_quality:.0%} near a mode", fontsize=9)
    figure.savefig(png, dpi=110)
    pyplot.close(figure)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=FOLDER / "modes" / "plane.json")
    parser.add_argument("--chart", type=Path, help="Draw all methods' figures.")
    parser.add_argument("--samples", type=Path, help="Train some methods once and draw their samples.")
    arguments = parser.parse_args()
    if arguments.chart is not None:
        chart(up_to_date(read(arguments.json)), arguments.chart)
        print(f"wrote {arguments.chart}")
    if arguments.samples is not None:
        samples(arguments.samples)
        print(f"wrote {arguments.samples}")


if __name__ == "__main__":
    main()
