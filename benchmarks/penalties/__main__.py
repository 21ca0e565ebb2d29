"""`python -m benchmarks.penalties`: times the critic's step with gradient penalties and writes the results.

Exits 1 when an implementation is wrong or fails, 2 when an argument is.
"""

import argparse
import sys
import time
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    # Imported here: every process that measures memory imports this file.
    import torch
    from rich.console import Console

    from benchmarks import environment, memory
    from benchmarks.penalties import report, suite
    from benchmarks.penalties.case import MAIN, OBJECTIVES, Case
    from benchmarks.penalties.critics import CRITICS
    from benchmarks.penalties.results import Results
    from benchmarks.results import FOLDER

    arguments = _parse(argv, list(CRITICS), list(OBJECTIVES), torch.cuda.is_available())
    device = torch.device(arguments.device)
    options = suite.Options(
        with_compile=not arguments.no_compile,
        with_memory=not arguments.no_memory,
        budget_s=0.5 if arguments.quick else 20.0 if device.type == "cpu" else 3.0,
    )
    console = Console(width=max(Console().width, 130))
    start = time.perf_counter()
    about = environment.collect(device)
    busy = environment.busy(about)
    if busy:
        console.print(f"This machine is busy (load {about['load_average']}): the figures will be inflated.")
    conditions = {
        "busy": busy,
        "timing": _timing_conditions(device.type, options.budget_s),
        "memory_resolution_bytes": memory.RESOLUTION[device.type],
        "seconds": None,
    }
    results = Results(arguments.dtype, arguments.channels_last, about, conditions)
    for name in arguments.critics or list(CRITICS):
        kind = CRITICS[name]
        objectives = arguments.objectives or (list(OBJECTIVES) if kind.several and not arguments.quick else [MAIN])
        for objective in objectives:
            began = time.perf_counter()
            batch = arguments.batch or (4 if arguments.quick else None)
            dtype = getattr(torch, arguments.dtype)
            case = Case(kind, OBJECTIVES[objective], device, dtype, arguments.channels_last, batch)
            parameters = sum(p.numel() for p in kind.build().parameters())
            results.critics[name] = {"batch": case.batch, "shape": list(kind.shape), "parameters": parameters}
            results.rows.extend(suite.run_case(case, options))
            seconds = time.perf_counter() - began
            print(f"{name} {objective}: {seconds:.1f} s", file=sys.stderr, flush=True)
    conditions["seconds"] = round(time.perf_counter() - start, 1)

    report.print_tables(results, console)
    part = arguments.quick or arguments.critics or arguments.objectives or arguments.batch
    whole = not (part or arguments.no_compile or arguments.no_memory)
    folder = arguments.out or (FOLDER if whole else None)
    if folder is None:
        console.print("Part of the suite ran: nothing was written (--out DIR writes it).")
    else:
        console.print(f"wrote {results.save(folder)}")
    console.print(f"{conditions['seconds']} s")
    return 1 if results.failed() else 0


def _parse(argv: list[str] | None, critics: list[str], objectives: list[str], has_cuda: bool) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.penalties", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if has_cuda else "cpu")
    parser.add_argument("--critics", nargs="+", choices=critics, metavar="NAME", help=f"of {', '.join(critics)}")
    parser.add_argument(
        "--objectives", nargs="+", choices=objectives, metavar="NAME",
        help=f"of {', '.join(objectives)} (default: all for some critics, the first for the others)",
    )  # fmt: skip
    parser.add_argument(
        "--dtype", choices=("float32", "float64", "float16", "bfloat16"), default="float32",
        help="16 bits: float32 parameters under autocast",
    )  # fmt: skip
    parser.add_argument("--channels-last", action="store_true", help="weights and images in that memory format")
    parser.add_argument("--batch", type=int, help="samples of each kind (default: each critic's own)")
    parser.add_argument("--quick", action="store_true", help="batch 4, R1 and R2 only, less time for each")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the JSON goes (default: the repository's)")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--no-memory", action="store_true", help="leave peak memory out")
    arguments = parser.parse_args(argv)
    if arguments.device == "cuda" and not has_cuda:
        parser.error("--device cuda: torch finds no CUDA device")
    if arguments.batch is not None and arguments.batch < 1:
        parser.error("--batch must be at least 1")
    return arguments


def _timing_conditions(device_type: str, budget_s: float) -> str:
    if device_type == "cuda":
        return (
            "Medians of single steps, implementations in alternation, timed by CUDA events from an idle GPU with the "
            f"L2 cache overwritten before each, over at least 3 rounds and {budget_s:g} s per line."
        )
    return (
        "Medians of steps (of samples of at least 2 ms of consecutive ones) after 5 ms of rest, implementations in "
        f"alternation, over at least 3 rounds and {budget_s:g} s per line, in one process with torch's default "
        "allocator; peak memory in a fresh process each."
    )


if __name__ == "__main__":
    raise SystemExit(main())
