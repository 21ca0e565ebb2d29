"""The terminal's table: one line for each implementation, grouped by op, shape and pass."""

from rich.console import Console
from rich.table import Table

from benchmarks.results import ERROR, OK, OUT_OF_MEMORY, UNSUPPORTED, WRONG, Results, Row, works

STATUS_TEXT = {WRONG: "WRONG", ERROR: "error", OUT_OF_MEMORY: "out of memory", UNSUPPORTED: "-"}


def print_table(results: Results, console: Console) -> None:
    """Every row, losing ones included; a speed-up only where both sides passed their check in this run."""
    console.print(f"{results.environment['device']}, {results.dtype}", highlight=False)
    timers = list(dict.fromkeys(row.timer for row in results.rows))
    for op, shape in works(results.rows):
        for timer in timers:
            rows = [row for row in results.rows if (row.op, row.shape, row.timer) == (op, shape, timer)]
            if rows:
                console.print(_table(results, rows, f"{op} {shape}" + (f", {timer}" if len(timers) > 1 else "")))
    for row in results.rows:
        if row.message and row.status != UNSUPPORTED:
            text = f"{row.op} {row.shape} {row.stage} {row.implementation}: {row.message}"
            console.print(text, markup=False, highlight=False)


def _table(results: Results, rows: list[Row], title: str) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in ("pass", "implementation"):
        table.add_column(heading, no_wrap=True)
    for heading in ("median (p20-p80)", "vs eager", "vs compile", "peak memory", "rate (of ceiling)"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        last = following is None or following.stage != row.stage
        label = row.stage if row.implementation == rows[0].implementation else ""
        table.add_row(label, row.implementation, *_figures(results, row), end_section=last)
    return table


def _figures(results: Results, row: Row) -> list[str]:
    if row.status != OK:
        return [STATUS_TEXT[row.status], "-", "-", size(row.peak_bytes), ""]
    return [
        f"{milliseconds(row.median_ms)} ({_short(row.p20_ms)}-{_short(row.p80_ms)})",
        times(results.speed_up(row, "eager")) if row.implementation != "eager" else "",
        times(results.speed_up(row, "compile")) if row.ours else "",
        size(row.peak_bytes),
        _rate(row),
    ]


def _rate(row: Row) -> str:
    """Bytes for what memory bounds, operations for what arithmetic bounds."""
    if row.bytes_per_s is None or row.flops_per_s is None or row.ceiling_share is None:
        return ""
    rate, unit = (row.bytes_per_s, "GB/s") if row.bound == "memory" else (row.flops_per_s, "GFLOP/s")
    return f"{rate / 1e9:.3g} {unit} ({row.ceiling_share:.0%})"


def milliseconds(ms: float | None) -> str:
    """Three significant digits, e.g. "0.0123 ms"."""
    return "-" if ms is None else f"{_short(ms)} ms"


def _short(ms: float | None) -> str:
    if ms is None:
        return "-"
    digits = 0 if ms >= 100 else 1 if ms >= 10 else 2 if ms >= 1 else 3 if ms >= 0.1 else 4
    return f"{ms:.{digits}f}"


def times(factor: float | None) -> str:
    """E.g. "0.87x" or "123x"; "-" where there is nothing to compare."""
    if factor is None:
        return "-"
    digits = 0 if factor >= 99.5 else 1 if factor >= 9.95 else 2 if factor >= 0.0995 else 4
    return f"{factor:.{digits}f}x"


def size(count: int | None) -> str:
    """Bytes in the unit that leaves one to three digits before the point."""
    if count is None:
        return "-"
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"
