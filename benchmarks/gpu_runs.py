"""Which ops have run on a GPU: read from the results of `python -m benchmarks --device cuda` and of `make gpu`."""

import json
from pathlib import Path
from typing import Any

from benchmarks.results import FOLDER, OK, load_all

GPU_BACKENDS = ("triton", "cuda")


def devices_by_op(folder: Path = FOLDER) -> dict[str, list[str]]:
    """For each op the devices on which one of its GPU backends was measured after its check had passed."""
    found: dict[str, list[str]] = {}

    def add(op: str, device: str) -> None:
        devices = found.setdefault(op, [])
        if device not in devices:
            devices.append(device)

    for results in load_all(folder):
        if results.environment["device_type"] == "cuda":
            for row in results.rows:
                if row.implementation in GPU_BACKENDS and row.status == OK:
                    add(row.op, results.environment["device"])
    for path in sorted(folder.glob("gpu-*/results.json")):
        data = json.loads(path.read_text())
        for row in _rows(data):
            if row.get("implementation") in GPU_BACKENDS and row.get("status") == OK and "op" in row:
                add(row["op"], data["device"])
    return found


def _rows(data: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of all stages of a run of `make gpu`."""
    return [row for tasks in data["stages"].values() for task in tasks for row in task["rows"]]
