"""Tables of the ops: for each family one line for every shape and compiled backend."""

from collections.abc import Sequence

from benchmarks.families import works_by_family
from benchmarks.markdown import head, line, origin, small, title
from benchmarks.report import STATUS_TEXT, milliseconds, times
from benchmarks.results import CALL, GRAPH, OK, Results, Row, backends, works

FORWARD, BACKWARD, DOUBLE = "forward", "forward+backward", "double backward"

HEADINGS = (
    "op, shape, backend", "forward", "vs eager", "vs compile", "forward + backward", "vs eager", "vs compile",
    "double backward", "vs eager", "memory vs eager",
)  # fmt: skip
TIMERS = {
    CALL: "",
    GRAPH: "The same with CUDA graphs, the GPU's time alone:",
}


def section(results: Results, pictures: Sequence[str] = ()) -> str:
    """Markdown for one run: a heading, for each family its chart and tables, and the conditions.

    Args:
        results: of `python -m benchmarks`.
        pictures: the charts' addresses, one for each family of `works_by_family`, or none.
    """
    parts = [f"### {title(results.environment, results.dtype)}"]
    families = works_by_family(works(results.rows))
    for i, (family, inside) in enumerate(families.items()):
        parts.append(f"#### {family[0].upper()}{family[1:]}")
        if pictures:
            parts.append(f"![Speed-up over eager PyTorch, {family}]({pictures[i]})")
        for timer, introduction in TIMERS.items():
            if any(row.timer == timer for row in results.rows):
                parts += [introduction] if introduction else []
                parts.append(table(results, inside, timer))
    parts.append(caption(results))
    return "\n\n".join(parts)


def table(results: Results, inside: list[tuple[str, str]], timer: str) -> str:
    """One table of the given (op, shape) pairs."""
    lines = head(HEADINGS)
    for op, shape in inside:
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
    """The conditions of a measurement, in sentences. How to read the columns stands in docs/benchmarks.md."""
    env, ceiling, conditions = results.environment, results.ceiling, results.conditions
    lines = [
        origin(results.dtype, env),
        f"Kernels use {env['instruction_set']}, compiled with `{env['compiler_flags']}`; torch uses "
        f"{env['torch_instruction_set']}." if env["device_type"] == "cpu" else "",
        conditions["timing"],
        f"Measured copy: {ceiling['memory_bytes_per_s'] / 1e9:.3g} GB/s from memory, "
        f"{ceiling['cache_bytes_per_s'] / 1e9:.3g} GB/s in cache; matrix product: "
        f"{ceiling['flops_per_s'] / 1e9:.3g} GFLOP/s.",
    ]  # fmt: skip
    return small(lines, conditions["busy"])
