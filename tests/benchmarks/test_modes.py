"""The mode benchmark's bookkeeping."""

import pytest

from benchmarks import modes
from fastgan.toys import plane_recipes


@pytest.fixture
def recipes(monkeypatch):
    made = {"one": ("run.steps=2", "run.batch_size=8"), "two": ("run.steps=3", "run.batch_size=8")}
    monkeypatch.setattr(modes, "PLANE_RECIPES", made)
    monkeypatch.setattr(plane_recipes, "PLANE_RECIPES", made)
    return made


def run(recipes, method="one", seed=0, **changes):
    row = {"mixture": "ring", "method": method, "seed": seed, "modes": 8, "of": 8, "high_quality": 0.5, "kl": 0.25,
           "seconds": 3.0, "changes": list(recipes[method])}  # fmt: skip
    return {**row, **changes}


@pytest.mark.usefixtures("one_thread")
def test_a_run_is_a_row_that_need_not_be_repeated(recipes, tmp_path):
    found = modes.one("ring", "two", 1)
    assert found["changes"] == ["run.steps=3", "run.batch_size=8"]
    modes.write(tmp_path / "new" / "runs.json", [found])
    assert modes.read(tmp_path / "new" / "runs.json") == [found]
    assert modes.read(tmp_path / "none.json") == []
    ahead = modes.missing([found], ["one", "two"], ["ring"], 2)
    assert ahead == [("ring", "one", 0), ("ring", "two", 0), ("ring", "one", 1)]
    recipes["two"] = ("run.steps=4",)  # another recipe under the name is another run
    assert ("ring", "two", 1) in modes.missing([found], ["one", "two"], ["ring"], 2)


def test_the_table(recipes):
    rows = [run(recipes), run(recipes, seed=1, modes=6, high_quality=0.7, kl=float("inf"))]
    lines = modes.table(rows, "ring").splitlines()
    assert lines[0].startswith("| ring, 8 modes | modes | worst seed")
    assert lines[2] == "| one | 7.0 ± 1.4 | 6 | 60.0 ± 14.1 % | - | 2 | 3 |"
    assert "| one | 8.0 | 8 | 50.0 % | 0.250 | 1 | 3 |" in modes.table(rows[:1], "ring")
    assert "| VEEGAN, published | 8 |  | 52.9 % |  |  |  |" in lines
    assert not any("two" in row for row in lines)
