"""Mode coverage on mixtures of Gaussians: a ring of 8 and a grid of 25, every method, several seeds, error bars.

    python -m benchmarks.modes                        # everything, two runs at a time (more than an hour)
    python -m benchmarks.modes --methods plain packing --seeds 2
    python -m benchmarks.modes --table docs/choosing.md --png docs/images/modes.png

Every finished run is written to the JSON file at once; those that it has are not repeated. With --table the tables
between the marks of a Markdown file are written from it, with --png a chart.
"""

import argparse
import math
import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.markdown import between, head, line
from benchmarks.modes_chart import draw
from benchmarks.results import FOLDER
from benchmarks.runs import Run, read, write
from fastgan import recipes
from fastgan.data import MIXTURES
from fastgan.toys.plane_recipes import PLANE_RECIPES, plane_recipe

SAMPLES, SEEDS = 2500, 5
BEGIN, END = "<!-- modes:begin -->", "<!-- modes:end -->"
# Srivastava et al. 2017, arXiv:1705.07761, table 1, on the same two mixtures.
PUBLISHED = {
    "ring": (("plain GAN, published", "1", "99.3 %"), ("ALI, published", "2.8", "0.13 %"),
             ("unrolled GAN, published", "7.6", "35.6 %"), ("VEEGAN, published", "8", "52.9 %")),
    "grid": (("plain GAN, published", "3.3", "0.5 %"), ("ALI, published", "15.8", "1.6 %"),
             ("unrolled GAN, published", "23.6", "16 %"), ("VEEGAN, published", "24.6", "40 %")),
}  # fmt: skip


def one(mixture: str, method: str, seed: int) -> Run:
    """Trains once, on one thread."""
    torch.set_num_threads(1)
    run = recipes.run_of(plane_recipe(method, mixture, seed))
    start = time.perf_counter()
    for _ in run:
        pass
    seconds = time.perf_counter() - start
    return {
        "mixture": mixture,
        "method": method,
        "seed": seed,
        **asdict(run.task.coverage(run.sources["image"], SAMPLES, seed=seed + 1)),
        "seconds": round(seconds, 1),
        "changes": list(PLANE_RECIPES[method]),
    }


def up_to_date(runs: list[Run]) -> list[Run]:
    """The runs of methods that still change the recipe `points` as they did."""
    return [r for r in runs if PLANE_RECIPES.get(r["method"]) == tuple(r["changes"])]


def missing(runs: list[Run], methods: list[str], mixtures: list[str], seeds: int) -> list[tuple[str, str, int]]:
    """The runs that are still missing, seed by seed, so that an early stop leaves all methods equally far."""
    done = {(r["mixture"], r["method"], r["seed"]) for r in up_to_date(runs)}
    wanted = [(mixture, method, seed) for seed in range(seeds) for method in methods for mixture in mixtures]
    return [key for key in wanted if key not in done]


def table(runs: list[Run], mixture: str) -> str:
    """Markdown: mean ± standard deviation over the seeds."""
    (of,) = {r["of"] for r in runs if r["mixture"] == mixture}
    headings = ("modes", "worst seed", "high quality", "KL of the modes", "seeds", "seconds")
    lines = head((f"{mixture}, {of} modes", *headings))
    for method in PLANE_RECIPES:
        found = [r for r in runs if (r["mixture"], r["method"]) == (mixture, method)]
        if not found:
            continue
        modes, quality, kl = ([r[name] for r in found] for name in ("modes", "high_quality", "kl"))
        lines.append(
            line(
                [
                    method,
                    spread(modes, 1),
                    str(min(modes)),
                    spread([100 * q for q in quality], 1, " %"),
                    spread(kl, 3),
                    str(len(found)),
                    f"{statistics.median(r['seconds'] for r in found):.0f}",
                ]
            )
        )
    lines += [line([name, modes, "", quality, "", "", ""]) for name, modes, quality in PUBLISHED[mixture]]
    return "\n".join(lines)


def spread(values: list[float], digits: int, unit: str = "") -> str:
    """Mean ± standard deviation, or the only value; a dash where one is infinite."""
    if not all(map(math.isfinite, values)):
        return "-"
    if len(values) == 1:
        return f"{values[0]:.{digits}f}{unit}"
    deviation = statistics.stdev(values)
    return f"{statistics.mean(values):.{digits}f} ± {deviation:.{digits}f}{unit}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=PLANE_RECIPES, default=list(PLANE_RECIPES))
    parser.add_argument("--mixtures", nargs="+", choices=MIXTURES, default=list(MIXTURES))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--processes", type=int, default=2, help="Runs at a time, one thread each.")
    parser.add_argument("--json", type=Path, default=FOLDER / "modes" / "plane.json")
    parser.add_argument("--table", type=Path, help="Only write the tables of this Markdown file.")
    parser.add_argument("--png", type=Path, help="Only draw a chart.")
    arguments = parser.parse_args()
    runs = up_to_date(read(arguments.json))
    if arguments.table is None and arguments.png is None:
        ahead = missing(runs, arguments.methods, arguments.mixtures, arguments.seeds)
        with ProcessPoolExecutor(arguments.processes, multiprocessing.get_context("spawn")) as pool:
            for i, future in enumerate(as_completed([pool.submit(one, *key) for key in ahead]), 1):
                r = future.result()
                runs.append(r)
                write(arguments.json, runs, samples=SAMPLES)
                print(
                    f"{i}/{len(ahead)} {r['mixture']}, {r['method']}, seed {r['seed']}: {r['modes']} of {r['of']} "
                    f"modes, {r['high_quality']:.1%} high quality, {r['seconds']:.0f} s",
                    flush=True,
                )
    tables = [table(runs, m) for m in arguments.mixtures if any(r["mixture"] == m for r in runs)]
    print("\n\n".join(tables))
    if arguments.table is not None:
        arguments.table.write_text(between(arguments.table.read_text(), BEGIN, END, tables))

    if arguments.png is not None:
        draw(runs, arguments.png)
        print(f"wrote {arguments.png}")


if __name__ == "__main__":
    main()
