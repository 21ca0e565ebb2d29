"""Rows of results, their JSON file, and the rule for when a speed-up may be stated."""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SUITE = "ops"  # other suites write other files into the same folder
FOLDER = Path(__file__).resolve().parent / "results"

OK, WRONG, ERROR, OUT_OF_MEMORY, UNSUPPORTED = "ok", "wrong", "error", "out of memory", "unsupported"
CALL, GRAPH = "call", "CUDA graph"  # the timers: a call as a user makes it; the GPU's time alone


@dataclass(frozen=True)
class Row:
    """One op, shape, stage, implementation and timer.

    Attributes:
        status: ok, wrong (errors beyond the tolerance: no timing), error, out of memory or unsupported.
        message: what is behind a status other than ok, in one line.
        median_ms, p20_ms, p80_ms: milliseconds per call, over `samples` samples of `calls_per_sample` calls.
        peak_bytes: peak extra memory of one call, its results included.
        bytes_per_s, flops_per_s: of forward, from the least work that the registry states; the bound is the one of the
            two that would take longer at the measured ceiling, and `ceiling_share` the share of that ceiling.
        error, eager_error: largest root mean square error of any tensor, relative to that tensor's largest value.
    """

    op: str
    shape: str
    stage: str
    implementation: str
    timer: str = CALL
    status: str = OK
    message: str | None = None
    median_ms: float | None = None
    p20_ms: float | None = None
    p80_ms: float | None = None
    samples: int | None = None
    calls_per_sample: int | None = None
    peak_bytes: int | None = None
    bytes_per_s: float | None = None
    flops_per_s: float | None = None
    bound: str | None = None
    ceiling_share: float | None = None
    error: float | None = None
    eager_error: float | None = None

    @property
    def ours(self) -> bool:
        return self.implementation not in ("eager", "compile")


@dataclass(frozen=True)
class Results:
    """One run on one device."""

    dtype: str
    environment: dict[str, Any]
    ceiling: dict[str, Any]
    conditions: dict[str, Any]
    rows: list[Row] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The file's stem: the device, and the dtype unless it is float32."""
        slug = self.environment["slug"]
        return slug if self.dtype == "float32" else f"{slug}-{self.dtype}"

    def find(self, op: str, shape: str, stage: str, implementation: str, timer: str = CALL) -> Row | None:
        wanted = (op, shape, stage, implementation, timer)
        for row in self.rows:
            if (row.op, row.shape, row.stage, row.implementation, row.timer) == wanted:
                return row
        return None

    def other(self, row: Row, implementation: str) -> Row | None:
        """The row of another implementation at the same work."""
        return self.find(row.op, row.shape, row.stage, implementation, row.timer)

    def speed_up(self, row: Row | None, over: str) -> float | None:
        """How many times faster than `over`; None unless both were found right in this run."""
        base = self.other(row, over) if row else None
        if row is None or base is None or row.status != OK or base.status != OK:
            return None
        if row.median_ms is None or base.median_ms is None:
            return None
        return base.median_ms / row.median_ms

    def memory_saving(self, row: Row | None, over: str = "eager") -> float | None:
        """How many times less peak memory than `over`, counting at least the resolution of the measurement.

        None where `over` itself needs so little that the measurement cannot tell.
        """
        base = self.other(row, over) if row else None
        if row is None or base is None or row.peak_bytes is None or base.peak_bytes is None:
            return None
        resolution = self.conditions["memory_resolution_bytes"]
        if base.peak_bytes < 2 * resolution:
            return None
        return base.peak_bytes / max(row.peak_bytes, resolution)

    def failed(self) -> list[Row]:
        return [row for row in self.rows if row.status in (WRONG, ERROR)]

    def save(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps({"suite": SUITE, **dataclasses.asdict(self)}, indent=1) + "\n")
        return path


def load(path: Path) -> Results:
    """Raises ValueError where the file is not a result of this suite."""
    data = json.loads(path.read_text())
    if not isinstance(data, dict) or data.pop("suite", None) != SUITE:
        raise ValueError(f"{path} is not a result of `python -m benchmarks`")
    return Results(**{**data, "rows": [Row(**row) for row in data["rows"]]})


def load_all(folder: Path = FOLDER) -> list[Results]:
    """All results of this suite in a folder, in the order of their names."""
    found = []
    for path in sorted(folder.glob("*.json")):
        if json.loads(path.read_text()).get("suite") == SUITE:
            found.append(load(path))
    return found


def works(rows: Iterable[Row]) -> list[tuple[str, str]]:
    """(op, shape) pairs in the order of the run."""
    return list(dict.fromkeys((row.op, row.shape) for row in rows))


def backends(rows: Iterable[Row], op: str, shape: str) -> list[str]:
    """The compiled backends measured at one op and shape."""
    return list(dict.fromkeys(row.implementation for row in rows if (row.op, row.shape) == (op, shape) and row.ours))
