"""Tables of the comparisons of whole networks: accelerated models, spectrally normalised weights."""

from benchmarks import accelerate, spectral_norm
from benchmarks.comparisons import Comparison
from benchmarks.markdown import head, line, origin, small, title
from benchmarks.report import milliseconds, times


def accelerated(results: Comparison) -> str:
    """A line for each critic and step: torch.nn's time, the accelerated model's, their ratio."""
    lines = ["| critic, batch | step | torch.nn | accelerated | ratio |", "| --- | --- | ---: | ---: | ---: |"]
    for row in results.rows:
        before, after = (row[key]["median_ms"] for key in (accelerate.PLAIN, accelerate.OURS))
        cells = [milliseconds(before), milliseconds(after), times(before / after)]
        lines.append(line([f"{row['critic']}, {row['batch']}", row["step"], *cells]))
    return _section(results, lines)


def spectral_norms(results: Comparison) -> str:
    """A line for each network and pass: the times of torch's two norms and of fastgan's, the better one's over ours."""
    lines = head(("network, parameters, pass", "torch parametrizations", "torch hooks", "fastgan", "ratio"))
    for row in results.rows:
        for stage in spectral_norm.STAGES:
            ours, *others = (row[f"{kind} {stage}"]["median_ms"] for kind in ("fastgan", "parametrizations", "hooks"))
            cells = [milliseconds(ms) for ms in (*others, ours)]
            about = f"{row['network']}, {row['parameters'] / 1e6:.1f} M, {stage}"
            lines.append(line([about, *cells, times(min(others) / ours)]))
    return _section(results, lines)


def _section(results: Comparison, lines: list[str]) -> str:
    timing = f"Medians, implementations in alternation in one process, {results.budget_s:g} s for each line."
    caption = small([origin("float32", results.environment), timing], results.busy)
    return "\n\n".join([f"### {title(results.environment)}", "\n".join(lines), caption])
