"""The fuzzer's command line: `python -m tests.fuzz --help`."""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import torch

from tests.fuzz import reporting
from tests.fuzz.faults import FAULTS
from tests.fuzz.workers import Result, examine, run


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Random critics against the textbook.")
    parser.add_argument("--critics", type=int, default=2000)
    parser.add_argument(
        "--seed", default=str(int.from_bytes(os.urandom(4), "little")), help="default: a fresh one, printed"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", type=int, metavar="INDEX", help="look at one program again, and shrink it")
    parser.add_argument("--shrink", type=int, default=10, metavar="N", help="how many failures are shrunk and printed")
    parser.add_argument("--seconds", type=float, default=15, help="how long each is shrunk")
    parser.add_argument("--json", type=Path, help="where the summary goes")
    parser.add_argument(
        "--against", type=Path, help="the summary of an earlier run of this seed: which critics lost the one pass"
    )
    parser.add_argument(
        "--faults",
        nargs="*",
        metavar="NAME",
        help=f"put faults back, each to be found: {', '.join(filter(None, FAULTS))}",
    )
    return parser.parse_args()


def main() -> int:
    options = _arguments()
    if options.only is not None:
        result = examine(options.seed, options.only, options.seconds)
        print(reporting.failure(options.seed, result) if result.failure else f"{result.verdict}")
        return int(result.failure is not None)
    if options.faults is not None:
        return _faults(options)
    print(f"seed {options.seed}", flush=True)
    started, results = time.monotonic(), list[Result]()
    for result in run(options.seed, options.critics, options.workers, options.shrink, options.seconds):
        results.append(result)
        _show(options, result, len(results), time.monotonic() - started, sum(r.failure is not None for r in results))
    found = reporting.summary(options.seed, results, time.monotonic() - started)
    print(reporting.table(found))
    if options.against:
        gone = reporting.lost(json.loads(options.against.read_text()), found, results)
        print("\n".join(["", f"{len(gone)} critics have lost the one pass since", *gone]))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return int(bool(found["failures"]))


def _show(options: argparse.Namespace, result: Result, done: int, seconds: float, failures: int) -> None:
    if result.failure is not None and failures <= options.shrink:
        print(reporting.failure(options.seed, result), flush=True)
    if done % 500 == 0 or done == options.critics:
        print(f"{done} critics, {failures} failures, {done / seconds:.1f} a second", file=sys.stderr, flush=True)


def _faults(options: argparse.Namespace) -> int:
    """Puts each fault back and looks for a program that fails by it alone; 1 if one stays hidden."""
    torch.set_num_threads(1)
    hidden = 0
    for name in options.faults or filter(None, FAULTS):
        started, looked_at, found = time.monotonic(), 0, None
        for result in run(options.seed, options.critics, options.workers, 0, 0, fault=name):
            looked_at += 1
            if result.failure is not None and examine(options.seed, result.index).failure is None:
                with FAULTS[name]():
                    found = examine(options.seed, result.index, options.seconds)
                break
        seconds = time.monotonic() - started
        if found is None or found.failure is None:
            hidden += 1
            print(f"{name}: not found by {looked_at} critics ({seconds:.0f} s)", flush=True)
        else:
            print(
                f"{name}: found by critic {looked_at} ({seconds:.0f} s)",
                reporting.failure(options.seed, found),
                flush=True,
            )
    return int(hidden > 0)


if __name__ == "__main__":
    sys.exit(main())
