"""Goals of the penalised step; `python -m benchmarks.targets` checks them with the others."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.penalties.case import MAIN
from benchmarks.penalties.critics import CRITICS
from benchmarks.penalties.results import Results
from benchmarks.penalties.steps import JOINT, ONE_PASS, ONE_PASS_COMPILED, PLAIN, PLAIN_ALONE, PLAIN_COMPILED, SEPARATE

RESNETS = ("resnet-32", "resnet-64")
GROUPED = ("r3gan-32", "grouped-32")
SLIM = ("dcgan-32", *RESNETS, *GROUPED)
CONVOLUTIONAL = tuple(kind.name for kind in CRITICS.values() if kind.convolutional)


@dataclass(frozen=True)
class Target:
    """`measured` returns the figure of a run (None: not measured or not right); `bound` is its most or its least."""

    text: str
    bound: float
    at_most: bool
    measured: Callable[[Results], float | None]

    def reached(self, figure: float | None) -> bool:
        return figure is not None and (figure <= self.bound if self.at_most else figure >= self.bound)


def price(critic: str, most: float, ours: str = ONE_PASS, base: str = PLAIN) -> Target:
    return Target(
        f"{critic} {MAIN}, {ours} over {base}: at most {most:g}x",
        most,
        True,
        lambda results: results.over(results.find(critic, MAIN, ours), base),
    )


def gain(critic: str, base: str, least: float) -> Target:
    return Target(
        f"{critic} {MAIN}, {base} over {ONE_PASS}: at least {least:g}x",
        least,
        False,
        lambda results: results.over(results.find(critic, MAIN, base), ONE_PASS),
    )


def memory(critic: str, most: float) -> Target:
    return Target(
        f"{critic} {MAIN}, peak memory of {ONE_PASS}: at most {most:g} of {JOINT}'s",
        most,
        True,
        lambda results: results.memory_over(results.find(critic, MAIN, ONE_PASS), JOINT),
    )


CPU_TARGETS = (
    *(price(critic, 1.45) for critic in SLIM),
    *(price(critic, 1.2, base=PLAIN_ALONE) for critic in GROUPED),
    *(gain(critic, JOINT, 1.8) for critic in RESNETS),
    *(gain(critic, SEPARATE, 2.6) for critic in RESNETS),
    *(memory(critic, 0.65) for critic in CONVOLUTIONAL),
)
GPU_TARGETS = (
    *(gain(critic, JOINT, 2) for critic in RESNETS),
    *(gain(critic, JOINT, 4) for critic in GROUPED),
    *(price(critic, 1.4, ONE_PASS_COMPILED, PLAIN_COMPILED) for critic in SLIM),
)
TARGETS = {"cpu": CPU_TARGETS, "cuda": GPU_TARGETS}


def check(results: Results, targets: tuple[Target, ...] | None = None) -> bool:
    """Prints one line per target; True when all are reached."""
    reached = True
    for target in TARGETS[results.environment["device_type"]] if targets is None else targets:
        figure = target.measured(results)
        passed = target.reached(figure)
        reached &= passed
        found = "not measured" if figure is None else f"{figure:.3g}"
        print(f"{'pass' if passed else 'FAIL'}  {target.text}: {found}")
    return reached
