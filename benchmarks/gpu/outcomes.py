"""A pytest plugin: `pytest -p benchmarks.gpu.outcomes --rows FILE` appends a row for every test when it is done."""

import json
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rows", type=Path, required=True, metavar="FILE")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Outcomes(config.getoption("--rows")))


class _Outcomes:
    def __init__(self, path: Path) -> None:
        self.path = path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Of set-up and tear-down only what went wrong is a row."""
        if report.when != "call" and report.passed:
            return
        row = {"test": report.nodeid, "status": report.outcome, "seconds": round(report.duration, 2)}
        if not report.passed:
            row["message"] = str(report.longrepr).strip().splitlines()[-1][:300]
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
