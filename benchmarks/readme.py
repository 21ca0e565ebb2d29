"""The README's tables, generated from benchmarks/results/*.json: `python -m benchmarks.readme [--check]`."""

import argparse
import sys
from pathlib import Path

from benchmarks.markdown import between, head, line, origin
from benchmarks.penalties import readme as penalties
from benchmarks.penalties import results as penalties_results
from benchmarks.report import STATUS_TEXT, milliseconds, times
from benchmarks.results import CALL, FOLDER, GRAPH, OK, Results, Row, backends, load_all, works

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"
FORWARD, BACKWARD, DOUBLE = "forward", "forward+backward", "double backward"

HEADINGS = (
    "op, shape, backend", "forward", "vs eager", "vs compile", "forward + backward", "vs eager", "vs compile",
    "double backward", "vs eager", "memory vs eager",
)  # fmt: skip
TIMERS = {
    CALL: "",
    GRAPH: "The same with CUDA graphs, the GPU's time alone:",
}


def section(results: Results) -> str:
    """One device: a heading, the tables and, as a caption, the exact conditions."""
    title = results.environment["device"] + ("" if results.dtype == "float32" else f", {results.dtype}")
    parts = [f"### {title}"]
    for timer, introduction in TIMERS.items():
        if any(row.timer == timer for row in results.rows):
            parts += [introduction] if introduction else []
            parts.append(table(results, timer))
    parts.append(caption(results))
    return "\n\n".join(parts)


def table(results: Results, timer: str) -> str:
    lines = head(HEADINGS)
    for op, shape in works(results.rows):
        for backend in backends(results.rows, op, shape) or ["no compiled backend"]:
            lines.append(line(_cells(results, op, shape, backend, timer)))
    return "\n".join(lines)


def _cells(results: Results, op: str, shape: str, backend: str, timer: str) -> list[str]:
    cells = [f"`{op}` {shape}, {backend}"]
    for stage in (FORWARD, BACKWARD, DOUBLE):
        row = results.find(op, shape, stage, backend, timer)
        cells.append(milliseconds(row.median_ms) if row and row.status == OK else _status(row))
        for base in ("eager",) if stage == DOUBLE else ("eager", "compile"):
            factor = results.speed_up(row, base)
            other = results.other(row, base) if row else None
            # A base that failed is said to have failed; a wrong row of ours states no speed-up at all.
            said = row is not None and row.status == OK and other is not None and other.status != OK
            cells.append(f"{base}: {_status(other)}" if said else times(factor))
    saving = results.memory_saving(results.find(op, shape, BACKWARD, backend, timer))
    return [*cells, "-" if saving is None else f"1/{saving:.0f}" if saving >= 1.5 else f"{1 / saving:.2f}"]


def _status(row: Row | None) -> str:
    return "-" if row is None else STATUS_TEXT.get(row.status, "-")


def caption(results: Results) -> str:
    """The conditions of a measurement, in sentences."""
    env, ceiling, conditions = results.environment, results.ceiling, results.conditions
    lines = [
        origin(results.dtype, env),
        f"Kernels use {env['instruction_set']}, compiled with `{env['compiler_flags']}`; torch uses "
        f"{env['torch_instruction_set']}." if env["device_type"] == "cpu" else "",
        conditions["timing"],
        "Times are ours; \"vs\" is the other's time over ours, so below 1 ours is slower. eager is the op in plain "
        "PyTorch, compile is `torch.compile` of it (static shapes), which cannot be differentiated twice. Double "
        "backward is a gradient penalty step: forward, backward and the backward of the gradients' squares. Memory is "
        "the peak extra memory of forward + backward, as a share of eager's.",
        "Every figure passed the check of its outputs and gradients against float64 in the same run (for torch.compile "
        "a wider one, see benchmarks/correctness.py). Measured copy: "
        f"{ceiling['memory_bytes_per_s'] / 1e9:.3g} GB/s from memory, {ceiling['cache_bytes_per_s'] / 1e9:.3g} GB/s in "
        f"cache; matrix product: {ceiling['flops_per_s'] / 1e9:.3g} GFLOP/s.",
    ]  # fmt: skip
    if conditions["busy"]:
        lines.append("**The machine was busy with other work during this measurement: the figures are inflated.**")
    return "<sub>" + " ".join(line for line in lines if line) + "</sub>"


def render(readme: str, all_results: list[Results]) -> str:
    """The README with the ops' tables replaced. ValueError: the markers are not there."""
    return between(readme, BEGIN, END, [section(results) for results in all_results])


def render_penalties(readme: str, all_results: list[penalties_results.Results]) -> str:
    """The README with the penalised step's tables replaced. ValueError: the markers are not there."""
    sections = [penalties.section(results) for results in all_results]
    return between(readme, penalties.BEGIN, penalties.END, sections)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readme", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if the README is out of date")
    parser.add_argument("--readme", type=Path, default=README)
    parser.add_argument("--results", type=Path, default=FOLDER)
    arguments = parser.parse_args(argv)
    old = arguments.readme.read_text()
    try:
        new = render(old, load_all(arguments.results))
        new = render_penalties(new, penalties_results.load_all(arguments.results))
    except ValueError as error:
        print(f"{arguments.readme.name}: {error}", file=sys.stderr)
        return 1
    if arguments.check:
        if new != old:
            print(
                f"{arguments.readme.name} differs from the results: run `python -m benchmarks.readme`", file=sys.stderr
            )
        return int(new != old)
    arguments.readme.write_text(new)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
