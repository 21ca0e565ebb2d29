"""A tiny training run that takes a fraction of a second."""

import pytest
import torch

from fastgan.train import TrainConfig


@pytest.fixture
def tiny(tmp_path):
    """Makes settings of a run below tmp_path: `tiny("name", steps=3)`."""

    def make(name="run", **changes):
        settings = {
            "steps": 6,
            "batch_size": 16,
            "log_every": 1,
            "sample_every": 100,
            "save_every": 100,
            "device": "cpu",
        }
        return TrainConfig.for_preset("digits-dcgan", out=tmp_path / name, **{**settings, **changes})

    return make


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small run no faster on two threads, and far slower where other processes want the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
