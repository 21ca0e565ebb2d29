"""The table of faults: properties that its rows must have whatever the classifier."""

import pytest

from benchmarks import faults
from fastgan.metrics.digits import HALF_OF_DIGITS


@pytest.mark.usefixtures("one_thread")
def test_every_fault_shows_in_the_numbers_that_are_for_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("fastgan.metrics.classifier.EPOCHS", 3)
    half, sets = faults.faulty_sets()
    assert {images.shape for images in (half, *sets.values())} == {(HALF_OF_DIGITS, 1, 8, 8)}
    assert max(images.abs().max() for images in sets.values()) <= 1
    chosen = ("the data themselves", "one image", "noise")
    lines = faults.table(half, {name: sets[name] for name in chosen}).splitlines()
    rows = {cells[1]: cells[2:-1] for cells in ([cell.strip() for cell in row.split("|")] for row in lines[2:])}
    assert rows["the data themselves"][3:5] == ["100.0%", "100.0%"]
    assert rows["the data themselves"][1].lstrip("-") == "0.000"
    assert rows["the data themselves"][6] == "100.0%"
    assert rows["the data themselves"][7] == "0.00"
    assert rows["one image"][0] == "1.00"
    assert rows["one image"][4] == "0.0%"
    assert float(rows["noise"][3].rstrip("%")) < 20
