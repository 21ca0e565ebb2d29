"""The README's table of the penalised step; `python -m benchmarks.readme` writes it."""

from benchmarks.markdown import head, line, origin
from benchmarks.penalties.case import MAIN
from benchmarks.penalties.report import calls
from benchmarks.penalties.results import Results, Row
from benchmarks.penalties.steps import JOINT, ONE_PASS, PLAIN, SEPARATE
from benchmarks.report import STATUS_TEXT, milliseconds, times
from benchmarks.results import CALL, GRAPH, OK

BEGIN, END = "<!-- penalties:begin -->", "<!-- penalties:end -->"
HEADINGS = (
    "critic, batch, penalties", "plain", "one pass", "one pass vs plain", "joint vs one pass", "separate vs one pass",
    "memory vs joint", "convolution calls: plain, one pass, joint",
)  # fmt: skip
TIMERS = {CALL: "", GRAPH: "The same with CUDA graphs, the GPU's time alone:"}


def section(results: Results) -> str:
    """One device: a heading, the tables and the conditions."""
    title = results.environment["device"]
    title += "" if results.dtype == "float32" else f", {results.dtype}"
    title += ", channels_last" if results.channels_last else ""
    parts = [f"#### {title}"]
    for timer, introduction in TIMERS.items():
        if any(row.timer == timer for row in results.rows):
            parts += [introduction] if introduction else []
            parts.append(table(results, timer))
    return "\n\n".join([*parts, caption(results)])


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
        times(results.over(ours, PLAIN)),
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


def caption(results: Results) -> str:
    """The conditions of a measurement, in sentences."""
    conditions = results.conditions
    lines = [
        origin(results.dtype, results.environment),
        conditions["timing"],
        "Batch is the number of real and again of fake samples. plain is the step without penalties, joint and "
        'separate are plain PyTorch, one pass is `fastgan.critic_loss(method="one_pass")`. "One pass vs plain" is our '
        "time over the plain step's, below 1 we are faster; joint and separate vs one pass are their times over ours, "
        "below 1 we are slower. Memory is our peak extra memory as a share of joint's. Convolution calls are those of "
        "ATen's convolution + the gradients asked of its backward. Every figure passed the check of its gradients "
        f"against float64 in the same run. {MAIN} and R1 have the weight 10 and the non-saturating loss, WGAN-GP the "
        "weight 10 and the Wasserstein loss.",
    ]
    if conditions["busy"]:
        lines.append("**The machine was busy with other work during this measurement: the figures are inflated.**")
    return "<sub>" + " ".join(lines) + "</sub>"
