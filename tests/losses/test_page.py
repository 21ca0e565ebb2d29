"""docs/objectives.md is what the registry and the docstrings say."""

import subprocess
import sys
from pathlib import Path

from fastgan.losses import LOSSES
from fastgan.losses.page import formula, page, papers, summary

COMMITTED = Path(__file__).parents[2] / "docs" / "objectives.md"


def test_the_committed_page_is_the_generated_one():
    assert COMMITTED.read_text() == page(), "run python -m fastgan.losses.page > docs/objectives.md"


def test_the_command_prints_it():
    command = [sys.executable, "-m", "fastgan.losses.page"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == page()


def test_every_objective_has_a_row():
    names = [line.split("|")[1].strip(" `") for line in page().splitlines() if line.startswith("| `")]
    assert set(LOSSES) < set(names)
    assert all(loss.paper in page() for loss in LOSSES.values())


def test_the_parts_of_a_docstring():
    def described():
        """|D(x)|, whose sign does not
        matter.

        More.

        Somebody et al. 2014, arXiv:1406.2661, equation 1; One & Two 2017, arXiv:1705.02894.
        """

    assert summary(described) == "|D(x)|, whose sign does not matter"
    assert formula(described) == r"`\|D(x)\|`, whose sign does not matter"
    assert papers(described) == "Somebody et al. 2014, arXiv:1406.2661; One & Two 2017, arXiv:1705.02894"
