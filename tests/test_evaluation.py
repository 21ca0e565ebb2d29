"""The remarks of `fastgan evaluate` beside figures that flatter."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from fastgan.cli.measurement import measure
from fastgan.cli.measurement_tables import doubts, show
from fastgan.errors import UserError
from fastgan.metrics import ClassCoverage, Comparison, DigitsReport, Scores, StackedDigitsReport
from fastgan.metrics.stacked_digits import ModeCount
from fastgan.recipes import Trained
from tests.train.steps import begun, recipe_of

SPREAD = ClassCoverage(10, 10, 0.99, (0.1,) * 10, 0.0)
DISTANCES = Comparison(898, 898, 0.1, 0.04, 0.0, 0.006)
REAL = Scores(9.8, 0.1, precision=0.92, recall=0.91, density=1.0, coverage=0.97)


def report(**scores):
    return DigitsReport(0.99, DISTANCES, DISTANCES, DISTANCES, replace(REAL, **scores), REAL, SPREAD, SPREAD)


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ({}, ""),
        ({"precision": 0.47, "recall": 0.47}, ""),
        (
            {"precision": 0.45},
            "Most samples are no digits: 45.0% lie where real digits do, of other real digits 92.0%. "
            "That 10 of 10 digits are covered says nothing of such samples.",
        ),
        ({"precision": 0.018, "recall": 0.0}, "Most samples are no digits: 1.8% lie where real digits do"),
        (
            {"recall": 0.01},
            "The samples are much alike: 1.0% of the real digits lie where samples do, beside 91.0% where other real "
            "digits do.",
        ),
    ],
)
def test_samples_that_are_no_digits_or_all_alike(scores, said, capsys):
    found = doubts(report(**scores))
    assert len(found) == bool(said)
    assert " ".join(" ".join(found).split()).startswith(said)
    show(report(**scores), "a run")
    out = capsys.readouterr().out
    assert "\n".join(found) in out
    rows = [line.split("│")[1].strip() for line in out.splitlines() if line.count("│") == 4]
    table = rows[rows.index("digits covered") :]
    assert table[:4] == ["digits covered", "confident", "precision", "recall"]


@pytest.mark.parametrize(("confident", "doubted"), [(0.26, True), (0.44, False)])
def test_stacks_that_are_no_digits(confident, doubted, capsys):
    counts = ModeCount(544, 1.1, confident), ModeCount(990, 0.02, 0.99)
    show(StackedDigitsReport(0.99, 2000, *counts), "a run")
    said = "Most samples are no digits: the classifier is confident of 26.0% of them, and of 99.0% of real ones."
    assert (said in " ".join(capsys.readouterr().out.split())) == doubted


class Broken(nn.Module):
    """A generator of NaN."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros([]))

    def forward(self, z):
        return self.weight * torch.full((len(z), 1, 8, 8), torch.nan)


def test_a_generator_that_has_diverged():
    recipe = recipe_of("digits-dcgan")
    task = begun(recipe).task
    task.averages["generator"] = Broken()
    with pytest.raises(
        UserError, match="CHECKPOINT makes images that are not finite numbers, expected a generator that"
    ):
        measure(Trained(task, recipe, 3, {}), 898, 0)
