"""Stacked digits: how many of the 1,000 modes a plain DCGAN and the regularised default cover, in what time.

    python -m benchmarks.stacked                     # both, one after the other, on all cores
    python -m benchmarks.stacked --methods dcgan --steps 500 --json /tmp/stacked.json
    python -m benchmarks.stacked --table docs/choosing.md

Runs are those of `fastgan train`, judged as `fastgan evaluate` does. A finished run is written to the JSON file at once
and not repeated. With --table the table between the marks of a Markdown file is written from it.
"""

import argparse
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.markdown import between, head, line
from benchmarks.results import FOLDER
from benchmarks.runs import Run, read, write
from fastgan import recipes
from fastgan.metrics import evaluate_stacked_digits
from fastgan.metrics.stacked_digits import MODES, STACKED_SAMPLES

BEGIN, END = "<!-- stacked:begin -->", "<!-- stacked:end -->"
STEPS = 6000
METHODS: dict[str, tuple[str, ...]] = {
    "dcgan": ("dcgan", "run.batch_size=64"),
    "R1 + R2, relativistic": ("digits-resnet",),
}
"""A recipe and its changes."""


def one(method: str, steps: int, seed: int) -> Run:
    """Trains once, with all of PyTorch's threads, and judges the averaged generator."""
    name, *changes = METHODS[method]
    data = ("data.image=stacked-digits", "data.resolution=8", "data.channels=3")
    log = (f"run.sample_every={steps}", f"run.save_every={steps}", f"run.log_every={max(1, steps // 20)}")
    recipe = recipes.read(name, [*changes, *data, *log, f"run.steps={steps}", f"run.seed={seed}"])
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        outcome = recipes.start(recipe, Path(folder) / "run")
        seconds = time.perf_counter() - start
        if outcome.signal is not None:
            raise KeyboardInterrupt
        report = evaluate_stacked_digits(outcome.run.task.sample(STACKED_SAMPLES, seed + 1))
    task, of_run = recipe.task, recipe.run
    settings = {"recipe": name, "loss": task.loss, "penalty": task.penalty}
    settings |= {"steps": of_run.steps, "batch_size": of_run.batch_size}
    about = {"method": method, "seed": seed, "seconds": round(seconds, 1), "threads": torch.get_num_threads()}
    return {**about, **settings, **asdict(report)}


def table(runs: list[Run]) -> str:
    """Markdown: a row per run, and what real digits would score."""
    lines = head((f"{MODES} modes", "modes", "KL", "confident", "steps", "minutes"))
    for run in sorted(runs, key=lambda r: (list(METHODS).index(r["method"]), r["steps"], r["seed"])):
        of = run["samples"]
        figures = [str(of["modes"]), f"{of['kl']:.3f}", f"{of['confident']:.1%}", f"{run['steps']:,}"]
        lines.append(line([run["method"], *figures, f"{run['seconds'] / 60:.1f}"]))
    if runs:
        of = runs[-1]["data"]
        lines.append(line(["real digits", str(of["modes"]), f"{of['kl']:.3f}", f"{of['confident']:.1%}", "", ""]))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--json", type=Path, default=FOLDER / "modes" / "stacked.json")
    parser.add_argument("--table", type=Path, help="Only write the table of this Markdown file.")
    arguments = parser.parse_args()
    runs = read(arguments.json)
    if arguments.table is None:
        done = {(r["method"], r["steps"], r["seed"]) for r in runs}
        wanted = [(method, arguments.steps, seed) for seed in range(arguments.seeds) for method in arguments.methods]
        for key in wanted:
            if key not in done:
                runs.append(one(*key))
                write(arguments.json, runs)
    print(table(runs))
    if arguments.table is not None:
        arguments.table.write_text(between(arguments.table.read_text(), BEGIN, END, [table(runs)]))


if __name__ == "__main__":
    main()
