"""The terminal's tables: one for each critic and objective, one line for each implementation."""

from rich.console import Console
from rich.table import Table

from benchmarks.penalties.results import Results, Row
from benchmarks.penalties.steps import JOINT, ONE_PASS, PLAIN
from benchmarks.report import STATUS_TEXT, milliseconds, size, times
from benchmarks.results import OK


def print_tables(results: Results, console: Console) -> None:
    """Every row, losing ones included; a ratio only where both sides passed their check in this run."""
    timers = list(dict.fromkeys(row.timer for row in results.rows))
    for critic, objective in results.works():
        for timer in timers:
            rows = [r for r in results.rows if (r.critic, r.objective, r.timer) == (critic, objective, timer)]
            about = f"{critic}, batch {results.critics[critic]['batch']}, {objective}"
            console.print(_table(results, rows, about + (f", {timer}" if len(timers) > 1 else "")))
    for row in results.rows:
        if row.message:
            text = f"{row.critic} {row.objective} {row.implementation}: {row.message}"
            console.print(text, markup=False, highlight=False)


def _table(results: Results, rows: list[Row], title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("implementation", no_wrap=True)
    for heading in (
        "median (p20-p80)", "vs plain", "vs joint", "vs one_pass", "peak memory", "of joint's", "convolutions", "error",
    ):  # fmt: skip
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row.implementation, *_figures(results, row))
    return table


def _figures(results: Results, row: Row) -> list[str]:
    """Times over those of the others: below 1 is faster."""
    error = "" if row.error is None else f"{row.error:.1e}"
    if row.status != OK or row.median_ms is None:
        return [STATUS_TEXT.get(row.status, "-"), "", "", "", "", "", "", error]
    share = results.memory_over(row, JOINT)
    return [
        f"{milliseconds(row.median_ms)} ({milliseconds(row.p20_ms)[:-3]}-{milliseconds(row.p80_ms)[:-3]})",
        *(times(results.over(row, base)) for base in (PLAIN, JOINT, ONE_PASS)),
        size(row.peak_bytes),
        "-" if share is None else f"{share:.2f}",
        calls(row),
        error,
    ]


def calls(row: Row | None) -> str:
    """Forward and backward, e.g. "10 + 18"."""
    if row is None or row.status != OK or row.conv_forward is None or row.conv_backward is None:
        return "-"
    return f"{row.conv_forward} + {row.conv_backward}"
