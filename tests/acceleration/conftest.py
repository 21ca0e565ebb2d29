"""Both ways of running a Sequential: as on a CPU, and with bias and activation in one pass as on a GPU."""

import pytest

from fastgan.acceleration import sequential


@pytest.fixture
def pairs_in_one_pass(monkeypatch):
    monkeypatch.setattr(sequential, "BIAS_IS_FREE", frozenset())


@pytest.fixture(params=["pairs apart", "pairs in one pass"])
def pairs(request, monkeypatch):
    if request.param == "pairs in one pass":
        monkeypatch.setattr(sequential, "BIAS_IS_FREE", frozenset())
    return request.param


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    pass
