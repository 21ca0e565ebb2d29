"""A tiny training run that takes a fraction of a second."""

import pytest
import torch

from fastgan.data import load
from fastgan.train import TrainConfig, resume, train
from fastgan.train.checkpoint import read_checkpoint
from fastgan.train.state import TrainState


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


@pytest.fixture
def double():
    """Makes the state of a run on the digits in float64; every one of the same settings is the same."""

    def make(config):
        made = TrainState(config, load("digits", 8, 1), torch.device("cpu"))
        for network in (made.generator, made.average.network, made.critic):
            network.double()
        next_batch, latents = made.next_batch, made.next_latents

        def doubled():
            batch = next_batch()
            return batch._replace(images=batch.images.double())

        made.next_batch = doubled
        made.next_latents = lambda: latents().double()
        return made

    return make


@pytest.fixture
def resumed(tiny):
    """Runs some settings for four steps, at once and in halves, and finds the same bits: the run in halves."""

    def make(**chosen):
        whole = train(tiny("whole", steps=4, **chosen), quiet=True)
        train(tiny("parts", steps=2, **chosen), quiet=True)
        parts = resume(tiny("parts").out, quiet=True, steps=4)
        one, other = (read_checkpoint(result.checkpoint)[0] for result in (whole, parts))
        assert one.keys() == other.keys()
        assert [name for name in one if not torch.equal(one[name], other[name])] == []
        return parts.run

    return make


@pytest.fixture(autouse=True)
def small_networks(one_thread):
    """Every test here runs on one thread."""
