"""Results of the comparisons of whole networks (`benchmarks.accelerate`, ...) as JSON files."""

import argparse
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.results import FOLDER


@dataclass(frozen=True)
class Comparison:
    """One run of one command on one device.

    Attributes:
        suite: the command, `accelerate`, `attention` or `spectral_norm`, which says what is in a row.
        environment: as `benchmarks.environment.collect` returns it.
        busy: whether other work ran on the machine when the run began.
        budget_s: seconds spent on each line.
    """

    suite: str
    environment: dict[str, Any]
    busy: bool
    budget_s: float
    rows: list[dict[str, Any]]

    @property
    def name(self) -> str:
        """The file's stem: the suite and the device."""
        return f"{self.suite.replace('_', '-')}-{self.environment['slug']}"

    def save(self, path: Path) -> Path:
        """Writes the JSON file; in a folder it takes `name`."""
        path = path if path.suffix == ".json" else path / f"{self.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")
        return path


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Adds `--json [PATH]`, which writes into benchmarks/results/ where no path is given."""
    text = "write the figures to this file or into this folder too (default: benchmarks/results/)"
    parser.add_argument("--json", nargs="?", type=Path, const=FOLDER, metavar="PATH", help=text)


def load_all(suite: str, folder: Path = FOLDER) -> list[Comparison]:
    """All results of a suite in a folder, in the order of their names."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return [Comparison(**data) for data in found if data.get("suite") == suite]
