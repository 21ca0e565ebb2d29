"""A tiny training run that takes a fraction of a second."""

import pytest

from fastgan.train import TrainConfig


@pytest.fixture
def tiny(tmp_path):
    """Makes settings of a run below tmp_path: `tiny("name", steps=3)`."""

    def make(name="run", preset="digits-dcgan", **changes):
        settings = {
            "steps": 6,
            "batch_size": 16,
            "log_every": 1,
            "sample_every": 100,
            "save_every": 100,
            "device": "cpu",
        }
        return TrainConfig.for_preset(preset, out=tmp_path / name, **{**settings, **changes})

    return make


@pytest.fixture(autouse=True)
def small_networks(one_thread):
    """Every test here runs on one thread."""
