"""The frame of a task: its arguments, and its findings as JSON lines, each on disk before the next is looked for."""

import argparse
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.results import ERROR, WRONG

Find = Callable[[str, torch.device], Iterator[dict[str, Any]]]
"""The name of what is looked at, the device -> rows. A row whose "status" is wrong or error is a failure."""


def main(find: Find, argv: list[str] | None = None) -> int:
    """The exit status: 1 if a row is a failure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rows", type=Path, required=True, metavar="FILE")
    arguments = parser.parse_args(argv)
    failed = False
    with arguments.rows.open("a") as file:
        for row in find(arguments.name, torch.device(arguments.device)):
            known = {key: value for key, value in row.items() if _is_known(value)}
            print(json.dumps(known), file=file, flush=True)
            print(known, flush=True)
            failed |= row.get("status") in (WRONG, ERROR)
    return int(failed)


def _is_known(value: Any) -> bool:
    """Infinity and NaN are not numbers of JSON; a row with one is wrong and its message says so."""
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))
