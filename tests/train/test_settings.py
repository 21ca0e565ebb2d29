"""Settings that make no sense are refused before the first step, each with its reason; those that do are not."""

import dataclasses

import pytest
import torch

from fastgan.data import load
from fastgan.errors import UserError
from fastgan.games import GAMES
from fastgan.models import PRESETS
from fastgan.train import TrainConfig, resume, train
from fastgan.train.state import TrainState
from fastgan.train.step import train_step

OF_TYPE = {kind: [f.name for f in dataclasses.fields(TrainConfig) if f.type is kind] for kind in (int, float, bool)}
SMALLEST = {"resolution": "8", "channels": 1, "penalty": "none", "device": "cpu"}


@pytest.fixture
def of_preset(tmp_path):
    return lambda preset="digits-dcgan", **changes: TrainConfig.for_preset(preset, tmp_path / "run", **changes)


@pytest.mark.parametrize("name", OF_TYPE[int])
@pytest.mark.parametrize("value", [1.5, 10.0, float("nan"), True, False, "8", None])
def test_whole_numbers(of_preset, name, value):
    option = "--" + name.replace("_", "-")
    with pytest.raises(UserError, match=f"^{option} is {value!r}, expected a whole number$"):
        of_preset(**{name: value})


@pytest.mark.parametrize("value", [True, "0.1", None])
@pytest.mark.parametrize("name", OF_TYPE[float])
def test_numbers(of_preset, name, value):
    option = "--" + name.replace("_", "-")
    with pytest.raises(UserError, match=f"^{option} is {value!r}, expected a number$"):
        of_preset(**{name: value})


def test_other_types(of_preset):
    assert ("steps" in OF_TYPE[int], "lr" in OF_TYPE[float], "spectral_norm" in OF_TYPE[bool]) == (True, True, True)
    assert of_preset(lr=1, ema=0).lr == 1  # a whole number is a number
    with pytest.raises(UserError, match=r"^--spectral-norm is 1, expected True or False$"):
        of_preset(spectral_norm=1)
    with pytest.raises(UserError, match=r"^--resolution is 8, expected a string$"):
        of_preset(resolution=8)


@pytest.mark.parametrize(
    ("preset", "changes", "message"),
    [
        ("digits-dcgan", {"penalty_every": 16}, "--penalty-every is 16, expected 1 without --penalty, of which it is"),
        (
            "digits-resnet",
            {"penalty": "none", "penalty_every": 2},
            "--penalty-every is 2, expected 1 without --penalty",
        ),
        ("stylegan2", {"penalty": "none", "penalty_every": 2}, "--penalty-every is 2, expected 1 without --penalty"),
        (
            "digits-dcgan",
            {"path_length_every": 8},
            "--path-length-every is 8, expected 4 without --path-length, of whi",
        ),
        ("stylegan2-small", {"path_length_every": 1}, "--path-length-every is 1, expected 4 without --path-length"),
        (
            "digits-dcgan",
            {"beta1": 0.0, "optimizer": "runge-kutta"},
            "--beta1 is 0.0, expected 0.5, the preset's: under runge-kutta the players step by SGD, not by Adam",
        ),
        (
            "digits-resnet",
            {"beta2": 0.9, "optimizer": "competitive:1e-3"},
            "--beta2 is 0.9, expected 0.99, the preset's: under competitive:1e-3 the players step by SGD",
        ),
    ],
)
def test_what_would_change_nothing(of_preset, preset, changes, message):
    with pytest.raises(UserError, match=f"^{message}"):
        of_preset(preset, **changes)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("optimizer", [*GAMES, "runge-kutta:2:1"])
def test_what_a_preset_brings_is_accepted_though_it_changes_nothing(of_preset, preset, optimizer):
    changes = {"penalty": "none", "path_length": 0.0, "optimizer": optimizer}
    assert of_preset(preset, **changes).penalty_every == PRESETS[preset].recipe.penalty_every
    assert of_preset(preset, **changes, penalty_every=1).beta1 == PRESETS[preset].recipe.beta1


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "stylegan2"])  # as stylegan2-small, but larger
def test_spectral_norm_where_a_layer_takes_it(of_preset, preset):
    """Either the run is refused or its critic can be made: one is normalised where its layers are torch's."""
    try:
        config = of_preset(preset, **SMALLEST, spectral_norm=True)
    except UserError as error:
        assert preset == "stylegan2-small"
        assert str(error).startswith(  # noqa: PT017 (the one preset without)
            "--spectral-norm is True, expected False: the layers of stylegan2-small divide their weights by the root"
        )
        return
    state = TrainState(config, load("digits", 8, 1), torch.device("cpu"))
    assert any("parametrizations" in name for name in state.critic.state_dict())


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "stylegan2"])
@pytest.mark.parametrize("loss", ["nonsaturating", "relativistic_pairing", "feature_matching", "began", "mmd"])
def test_a_single_sample_or_pack(of_preset, preset, loss):
    """Batch norm over one image's pixels, minibatch layers without others: whatever is not refused takes a step."""
    for size in ({"batch_size": 1}, {"batch_size": 3, "pack": 3}, {"batch_size": 2}):
        try:
            config = of_preset(preset, **SMALLEST, loss=loss, **size)
        except UserError as error:
            styled = PRESETS[preset].styled
            assert loss in ("mmd", "began")
            assert loss != "began" or styled or "pack" in size, error  # noqa: PT017 (all but a few go on)
            assert loss != "mmd" or size != {"batch_size": 2}, error  # noqa: PT017
            continue
        step = train_step(TrainState(config, load("digits", 8, 1), torch.device("cpu")), config.regularisation)
        assert all(value.isfinite().all() for value in step.scalars().values())


@pytest.mark.parametrize("loss", ["mmd", "mmd:gaussian", "sliced_wasserstein"])
def test_samples_that_are_compared_are_two_or_more(of_preset, loss):
    with pytest.raises(UserError, match=f"^--batch-size is 1, expected at least 2, as {loss} compares samples with ea"):
        of_preset(loss=loss, batch_size=1)
    with pytest.raises(UserError, match=f"^--pack is 8, expected at most half of --batch-size, as {loss} compares pac"):
        of_preset(loss=loss, batch_size=8, pack=8)


def test_a_resumed_run_is_checked_too(tiny):
    result = train(tiny(steps=1), quiet=True)
    with pytest.raises(UserError, match=r"^--steps is 2.5, expected a whole number$"):
        resume(result.run, quiet=True, steps=2.5)
