"""`python -m benchmarks`: measures every op of the registry on this machine, prints a table and writes the results.

Exits 1 when an implementation is wrong or fails, 2 when an argument is.
"""

import argparse
import dataclasses
import sys
import time
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    # Imported here: every process that measures memory imports this file.
    import torch
    from rich.console import Console

    from benchmarks import ceiling, environment, memory, report, suite
    from benchmarks.cases import cases
    from benchmarks.results import FOLDER, Results, Row
    from fastgan.registry import OPS

    arguments = _parse(argv, list(OPS), torch.cuda.is_available())
    device = torch.device(arguments.device)
    dtype = getattr(torch, arguments.dtype)
    whole = not (arguments.quick or arguments.ops or arguments.no_compile or arguments.no_memory)
    options = suite.Options(
        with_compile=not arguments.no_compile,
        with_memory=not arguments.no_memory,
        budget_s=0.3 if arguments.quick else 1.5 if device.type == "cpu" else 0.6,
    )
    console = Console(width=max(Console().width, 130))
    start = time.perf_counter()

    about = environment.collect(device)
    busy = environment.busy(about)
    if busy:
        console.print(f"This machine is busy (load {about['load_average']}): the figures will be inflated.")
    measured = ceiling.measure(device)
    conditions = {
        "busy": busy,
        "timing": _timing_conditions(device.type, options.budget_s),
        "memory_resolution_bytes": memory.RESOLUTION[device.type],
        "seconds": None,
    }
    rows: list[Row] = []
    large = arguments.large or (device.type == "cuda" and not arguments.quick)
    for case in cases(device, dtype, arguments.ops, quick=arguments.quick, large=large):
        began = time.perf_counter()
        rows += suite.run_case(case, measured, options)
        seconds = time.perf_counter() - began
        print(f"{case.spec.name} {case.shape.label}: {seconds:.1f} s", file=sys.stderr, flush=True)
    conditions["seconds"] = round(time.perf_counter() - start, 1)
    results = Results(arguments.dtype, about, dataclasses.asdict(measured), conditions, rows)

    report.print_table(results, console)
    folder = arguments.out or (FOLDER if whole else None)
    if folder is None:
        console.print("Part of the suite ran: nothing was written (--out DIR writes it).")
    else:
        console.print(f"wrote {results.save(folder)}")
    console.print(f"{conditions['seconds']} s")
    return 1 if results.failed() else 0


def _parse(argv: list[str] | None, ops: list[str], has_cuda: bool) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if has_cuda else "cpu")
    parser.add_argument("--ops", nargs="+", metavar="NAME", choices=ops, help=f"of {', '.join(ops)} (default: all)")
    parser.add_argument("--dtype", choices=("float32", "float64", "float16", "bfloat16"), default="float32")
    parser.add_argument("--quick", action="store_true", help="the first shape of each op, less time for each")
    parser.add_argument("--large", action="store_true", help="also shapes that outgrow eager (always on a GPU)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the JSON goes (default: the repository's)")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--no-memory", action="store_true", help="leave peak memory out")
    arguments = parser.parse_args(argv)
    if arguments.device == "cuda" and not has_cuda:
        parser.error("--device cuda: torch finds no CUDA device")
    return arguments


def _timing_conditions(device_type: str, budget_s: float) -> str:
    if device_type == "cuda":
        return (
            "Medians of single calls, implementations in alternation, timed by CUDA events from an idle GPU with the "
            f"L2 cache overwritten before each, over at least 3 rounds and {budget_s / 2:g} s per case."
        )
    return (
        "Medians of samples of at least 2 ms of consecutive calls (so small inputs stay in cache) after 5 ms of rest, "
        f"implementations in alternation, over at least 3 rounds and {budget_s:g} s per case, in one process with "
        "torch's default allocator; peak memory in a fresh process each."
    )


if __name__ == "__main__":
    raise SystemExit(main())
