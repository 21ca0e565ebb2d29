"""The JSON file of a benchmark whose rows are whole trainings: read at its start, written after each."""

import json
from pathlib import Path
from typing import Any

import torch

Run = dict[str, Any]
"""One training and what it came to."""


def read(path: Path) -> list[Run]:
    """The runs so far; none if there is no file."""
    return json.loads(path.read_text())["runs"] if path.exists() else []


def write(path: Path, runs: list[Run], **about: Any) -> None:
    """All runs, with the version of PyTorch and whatever else is said about them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**about, "torch": torch.__version__, "runs": runs}, indent=1) + "\n")
