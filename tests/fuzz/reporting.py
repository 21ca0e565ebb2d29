"""Prints a run: failures as programs that can be run, and a summary in numbers."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.fuzz.workers import Result


def failure(seed: str, result: Result) -> str:
    """One failure: what went wrong, the program, how to see it again."""
    assert result.failure is not None
    others = ", ".join(f"{f.method}: {f.kind}" for f in result.verdict.failures)
    lines = ["", "=" * 100, f"{result.failure.method}: {result.failure.detail}", f"(as generated: {others})"]
    lines += [f"again: python -m tests.fuzz --seed {seed} --only {result.index}", "", result.program]
    return "\n".join(lines)


def summary(seed: str, results: Sequence[Result], seconds: float) -> dict[str, Any]:
    """Counts, for JSON."""
    judged = [r for r in results if r.verdict.status != "no textbook"]
    eligible = [r for r in judged if r.eligible]
    failures = Counter(str(f.key) for r in results for f in r.verdict.failures)
    first: dict[str, int] = {}
    for r in sorted(results, key=lambda r: r.index):
        for f in r.verdict.failures:
            first.setdefault(str(f.key), r.index)
    return {
        "seed": seed,
        "critics": len(results),
        "seconds": round(seconds, 1),
        "status": dict(Counter(r.verdict.status for r in results)),
        "share of one pass": _share(judged),
        "share of one pass where every operation is affine": _share(eligible),
        "refusals where every operation is affine": _counted(r.verdict.refusal for r in eligible),
        "refusals of others": _counted(r.verdict.refusal for r in judged if not r.eligible),
        "named errors": _counted(n for r in results for n in r.verdict.named),
        "without a textbook": _counted(r.verdict.textbook for r in results if r.verdict.status == "no textbook"),
        "failures": {key: {"count": n, "first": first[key]} for key, n in failures.most_common()},
        "one pass": _bits(results),
    }


def _share(results: Sequence[Result]) -> float:
    return round(sum(r.verdict.one_pass for r in results) / max(len(results), 1), 4)


def _counted(names: Any) -> dict[str, int]:
    return dict(Counter(name for name in names if name).most_common())


def _bits(results: Sequence[Result]) -> str:
    """For each index whether one pass took it, four to a hexadecimal digit."""
    taken = {r.index for r in results if r.verdict.one_pass}
    groups = range(0, max((r.index for r in results), default=-1) + 1, 4)
    return "".join(f"{sum((i + k in taken) << k for k in range(4)):x}" for i in groups)


def lost(before: dict[str, Any], after: dict[str, Any], results: Sequence[Result]) -> list[str]:
    """The programs that one pass took in an earlier run of the same seed and takes no longer, with the reason.

    Raises:
        ValueError: the runs are of different seeds.
    """
    if before["seed"] != after["seed"]:
        raise ValueError(f"the earlier run has the seed {before['seed']}, expected {after['seed']}")
    taken = int(before["one pass"][::-1] or "0", 16)
    return [
        f"{r.index}: {r.verdict.refusal or r.verdict.status}"
        for r in sorted(results, key=lambda r: r.index)
        if taken >> r.index & 1 and not r.verdict.one_pass
    ]


def table(found: dict[str, Any]) -> str:
    """The summary as text."""
    lines = [
        "",
        f"{found['critics']} critics of the seed {found['seed']} in {found['seconds']:.0f} s: "
        + ", ".join(f"{n} {status}" for status, n in found["status"].items()),
        f"one pass: {found['share of one pass']:.1%} of those that the textbook can, "
        f"{found['share of one pass where every operation is affine']:.1%} where every operation is affine",
    ]
    for title in (
        "refusals where every operation is affine",
        "refusals of others",
        "named errors",
        "without a textbook",
    ):
        lines += ["", title, *(f"{n:7d}  {name}" for name, n in found[title].items())]
    if found["failures"]:
        lines += ["", "failures, and the first program that shows each"]
        lines += [f"{f['count']:7d}  {key}  ({f['first']})" for key, f in found["failures"].items()]
    return "\n".join(lines)
