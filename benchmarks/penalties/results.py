"""Rows of results of the penalised step and their JSON file, next to that of the ops."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.results import CALL, ERROR, FOLDER, OK, WRONG

SUITE = "penalties"


@dataclass(frozen=True)
class Row:
    """One critic, objective, implementation and timer.

    Attributes:
        status, message, median_ms, p20_ms, p80_ms, samples, calls_per_sample, peak_bytes: as in benchmarks.results.Row.
        conv_forward, conv_backward: calls of ATen's convolution, and the gradients asked of its backward.
        error, yardstick: the largest relative error of the gradients, and what the textbook (for a step without
            penalties that step in eager PyTorch) has in the same dtype.
    """

    critic: str
    objective: str
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
    conv_forward: int | None = None
    conv_backward: int | None = None
    error: float | None = None
    yardstick: float | None = None


@dataclass(frozen=True)
class Results:
    """One run on one device; `critics` says by name what batch each was measured on and how many parameters it has."""

    dtype: str
    channels_last: bool
    environment: dict[str, Any]
    conditions: dict[str, Any]
    critics: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The file's stem: the device, the dtype unless it is float32, the memory format if it is channels_last."""
        parts = ["penalties", self.environment["slug"]]
        parts += [] if self.dtype == "float32" else [self.dtype]
        parts += ["channels-last"] if self.channels_last else []
        return "-".join(parts)

    def find(self, critic: str, objective: str, implementation: str, timer: str = CALL) -> Row | None:
        wanted = (critic, objective, implementation, timer)
        for row in self.rows:
            if (row.critic, row.objective, row.implementation, row.timer) == wanted:
                return row
        return None

    def other(self, row: Row | None, implementation: str) -> Row | None:
        """The row of another implementation at the same work."""
        return self.find(row.critic, row.objective, implementation, row.timer) if row else None

    def over(self, row: Row | None, base: str) -> float | None:
        """The row's time over that of `base`; None unless both were found right in this run."""
        other = self.other(row, base)
        if row is None or other is None or row.status != OK or other.status != OK:
            return None
        if not row.median_ms or not other.median_ms:
            return None
        return row.median_ms / other.median_ms

    def memory_over(self, row: Row | None, base: str) -> float | None:
        """The row's peak memory over that of `base`; None unless both are right and can be told from nothing."""
        other = self.other(row, base)
        if row is None or other is None or row.status != OK or other.status != OK:
            return None
        if row.peak_bytes is None or other.peak_bytes is None:
            return None
        resolution = self.conditions["memory_resolution_bytes"]
        if other.peak_bytes < 2 * resolution:
            return None
        return max(row.peak_bytes, resolution) / other.peak_bytes

    def works(self) -> list[tuple[str, str]]:
        """(critic, objective) in the order of the run."""
        return list(dict.fromkeys((row.critic, row.objective) for row in self.rows))

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
        raise ValueError(f"{path} is not a result of `python -m benchmarks.penalties`")
    return Results(**{**data, "rows": [Row(**row) for row in data["rows"]]})


def load_all(folder: Path = FOLDER) -> list[Results]:
    """All results of this suite in a folder, in the order of their names."""
    paths = sorted(folder.glob("*.json"))
    return [load(path) for path in paths if json.loads(path.read_text()).get("suite") == SUITE]
