"""The table of the critic's step with gradient penalties."""

from benchmarks.markdown import head, line, origin, small, title
from benchmarks.penalties.report import calls
from benchmarks.penalties.results import Results, Row
from benchmarks.penalties.steps import JOINT, ONE_PASS, PLAIN, PLAIN_ALONE, SEPARATE
from benchmarks.report import STATUS_TEXT, milliseconds, times
from benchmarks.results import CALL, GRAPH, OK

HEADINGS = (
    "critic, batch, penalties", "plain", "one pass", "one pass vs plain", "vs PyTorch alone", "joint vs one pass",
    "separate vs one pass", "memory vs joint", "convolution calls: plain, one pass, joint",
)  # fmt: skip
TIMERS = {CALL: "", GRAPH: "The same with CUDA graphs, the GPU's time alone:"}


def section(results: Results, picture: str | None = None) -> str:
    """Markdown for one run: a heading, the chart at the address `picture`, the tables and the conditions."""
    layout = ", channels_last" if results.channels_last else ""
    parts = [f"### {title(results.environment, results.dtype)}{layout}"]
    if picture:
        parts.append(f"![The critic's step with R1 + R2, beside the step without penalties]({picture})")
    for timer, introduction in TIMERS.items():
        if any(row.timer == timer for row in results.rows):
            parts += [introduction] if introduction else []
            parts.append(table(results, timer))
    conditions = [origin(results.dtype, results.environment), results.conditions["timing"]]
    return "\n\n".join([*parts, small(conditions, results.conditions["busy"])])


def table(results: Results, timer: str) -> str:
    lines = head(HEADINGS)
    lines += [line(_cells(results, critic, objective, timer)) for critic, objective in results.works()]
    return "\n".join(lines)


def _cells(results: Results, critic: str, objective: str, timer: str) -> list[str]:
    def find(name: str) -> Row | None:
        return results.find(critic, objective, name, timer)

    ours = find(ONE_PASS)
    share = results.memory_over(ours, JOINT)
    return [
        f"{critic}, {results.critics[critic]['batch']}, {objective}",
        _time(find(PLAIN)),
        _time(ours),
        *(times(results.over(ours, base)) for base in (PLAIN, PLAIN_ALONE)),
        *(_over(results, find(base), ours) for base in (JOINT, SEPARATE)),
        "-" if share is None else f"{share:.2f}",
        " / ".join(calls(find(name)) for name in (PLAIN, ONE_PASS, JOINT)),
    ]


def _over(results: Results, row: Row | None, ours: Row | None) -> str:
    """A base that failed is said to have failed; a wrong row of ours states no speed-up at all."""
    if ours is not None and ours.status == OK and row is not None and row.status != OK:
        return STATUS_TEXT[row.status]
    return times(results.over(row, ONE_PASS))


def _time(row: Row | None) -> str:
    if row is None:
        return "-"
    return milliseconds(row.median_ms) if row.status == OK else STATUS_TEXT[row.status]
