"""DiracGAN's table and picture: the methods' trajectories, and whether they converge, circle or diverge.

python -m benchmarks.dirac --png docs/images/dirac.png --table docs/choosing.md
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from benchmarks.markdown import between, head, line
from fastgan.toys import DIRAC_RECIPES, trajectory, verdict

COLORS = {"converges": "#1b7837", "circles": "#2166ac", "diverges": "#b2182b", "stuck": "#8c510a"}
COLUMNS = 6
STEPS = 500
BEGIN, END = "<!-- dirac:begin -->", "<!-- dirac:end -->"


def draw(paths: dict[str, np.ndarray], png: Path) -> None:
    """One panel for each method: theta to the right, psi upwards, the start a circle, the equilibrium a cross."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = -(-len(paths) // COLUMNS)
    figure, grid = pyplot.subplots(rows, COLUMNS, figsize=(2.3 * COLUMNS, 2.5 * rows), layout="constrained")
    for axes in grid.flat[len(paths) :]:
        axes.axis("off")
    for axes, (name, path) in zip(grid.flat, paths.items(), strict=False):
        color = COLORS[verdict(path)]
        axes.plot(*path.T, color=color, linewidth=0.8)
        axes.plot(*path[0], "o", color=color, markersize=4)
        axes.plot(0, 0, "+", color="black", markersize=9)
        axes.set(xlim=(-2.2, 2.2), ylim=(-2.2, 2.2), aspect="equal", xticks=[-2, 0, 2], yticks=[-2, 0, 2])
        title = name.replace(", ", ",\n", 1) if len(name) > 24 else name
        axes.set_title(f"{title}\n{verdict(path)}", fontsize=8, color=color)
        axes.tick_params(labelsize=7)
    figure.supxlabel("θ, the generator's sample", fontsize=10)
    figure.supylabel("ψ, the critic's slope", fontsize=10)
    figure.savefig(png, dpi=110)
    pyplot.close(figure)


def table(paths: dict[str, np.ndarray]) -> str:
    """Markdown."""
    lines = head(("method", f"after {STEPS} steps", "distance from (0, 0)"))
    lines += [line([name, verdict(path), f"{np.linalg.norm(path[-1]):.2g}"]) for name, path in paths.items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--png", type=Path, help="Also draw the trajectories.")
    parser.add_argument("--table", type=Path, help="Also write the table between the marks of this Markdown file.")
    arguments = parser.parse_args()
    torch.manual_seed(0)  # where DRAGAN and WGAN-GP take their penalties, which does not matter here
    paths = {name: trajectory(recipe, STEPS) for name, recipe in DIRAC_RECIPES.items()}
    print(table(paths))
    if arguments.table is not None:
        arguments.table.write_text(between(arguments.table.read_text(), BEGIN, END, [table(paths)]))
    if arguments.png is not None:
        draw(paths, arguments.png)
        print(f"wrote {arguments.png}")


if __name__ == "__main__":
    main()
