"""Goals of the results: `python -m benchmarks.targets [FILE]` prints each and exits 1 if one is missed."""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.penalties import results as penalties_results
from benchmarks.penalties import targets as penalties
from benchmarks.results import FOLDER, Results, load, load_all


@dataclass(frozen=True)
class Target:
    """`measured` returns the figure of a run (None: not measured or not right), which must reach `least`."""

    text: str
    least: float
    measured: Callable[[Results], float | None]


def speed(op: str, shape: str, stage: str, backend: str, over: str, least: float) -> Target:
    return Target(
        f"{op} {shape} {stage}, {backend} over {over}: at least {least:g}x",
        least,
        lambda results: results.speed_up(results.find(op, shape, stage, backend), over),
    )


def memory(op: str, shape: str, stage: str, backend: str, least: float) -> Target:
    return Target(
        f"{op} {shape} {stage}, peak memory of {backend}: at most 1/{least:g} of eager's",
        least,
        lambda results: results.memory_saving(results.find(op, shape, stage, backend)),
    )


_DISCRIMINATION = "minibatch_discrimination"
CPU_TARGETS = (
    *(
        speed(_DISCRIMINATION, shape, stage, "cpu", over, least)
        for shape in ("64x100x5", "128x100x16", "256x64x16")
        for stage, over, least in (
            ("forward", "eager", 25),
            ("forward", "compile", 3),
            ("forward+backward", "eager", 15),
            ("forward+backward", "compile", 2),
        )
    ),
    *(memory(_DISCRIMINATION, "256x64x16", stage, "cpu", 50) for stage in ("forward", "forward+backward")),
)
"""Reached by the kernels' design on two AVX-512 cores; they guard against regressions, not against other machines."""


def check(results: Results, targets: tuple[Target, ...] = CPU_TARGETS) -> bool:
    """Prints one line per target; True when all are reached."""
    reached = True
    for target in targets:
        figure = target.measured(results)
        passed = figure is not None and figure >= target.least
        reached &= passed
        found = "not measured" if figure is None else f"{figure:.3g}"
        print(f"{'pass' if passed else 'FAIL'}  {target.text}: {found}")
    return reached


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.targets", description=__doc__)
    parser.add_argument(
        "file", type=Path, nargs="?", help="a results file (default: all in benchmarks/results that have targets)"
    )
    arguments = parser.parse_args(argv)
    ops, steps = _load(arguments.file)
    ops = [r for r in ops if r.environment["device_type"] == "cpu" and r.dtype == "float32"]
    # A GPU's targets hold in the precisions that one trains in there.
    steps = [r for r in steps if r.environment["device_type"] == "cuda" or r.dtype == "float32"]
    if not ops and not (arguments.file and steps):
        print("no float32 results of a CPU: run `python -m benchmarks --device cpu`")
        return 1
    reached = True
    for results in ops:
        print(results.environment["device"])
        reached &= check(results)
    for step in steps:
        print(f"{step.environment['device']}, gradient penalties, {step.dtype}")
        reached &= penalties.check(step)
    return 0 if reached else 1


def _load(file: Path | None) -> tuple[list[Results], list[penalties_results.Results]]:
    """The ops' and the penalised steps' results: those of one file, or all of the repository."""
    if file is None:
        return load_all(FOLDER), penalties_results.load_all(FOLDER)
    if json.loads(file.read_text()).get("suite") == penalties_results.SUITE:
        return [], [penalties_results.load(file)]
    return [load(file)], []


if __name__ == "__main__":
    raise SystemExit(main())
