"""Runs with a spectrally normalised critic: trained, resumed with the same numbers, and refused otherwise."""

import pytest

from fastgan import recipes
from fastgan.errors import UserError
from fastgan.nn import SpectralNorm
from tests.train.steps import begun, networks, recipe_of, resumed

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("recipe", ["digits-dcgan", "digits-resnet", "dcgan"])
def test_every_convolution_and_linear_layer_of_the_critic_is_normalised(recipe):
    small = {"resolution": 8, "channels": 1, "image": "digits", "penalty": "", "loss": "hinge"}
    run, plain = (begun(recipe_of(recipe, spectral_norm=norm, **small)) for norm in (True, False))
    originals = [name for name, _ in networks(run)[1].named_parameters() if name.endswith(".original")]
    weights = [n for n, p in networks(plain)[1].named_parameters() if n.endswith(".weight") and p.ndim in (2, 4)]
    layers = {name.removesuffix(".parametrizations.weight.original") for name in originals}
    # That of minibatch discrimination is no layer's.
    assert layers == {name.removesuffix(".weight") for name in weights} - {"head.0"}
    assert any(isinstance(module, SpectralNorm) for module in networks(run)[1].modules())
    assert not any(isinstance(module, SpectralNorm) for module in networks(run)[0].modules())
    next(run)
    assert run.task.sample(4).isfinite().all()


def test_resumed_run_has_the_same_numbers(tmp_path):
    resumed(tmp_path, "digits-resnet", loss="hinge", spectral_norm=True)


def test_another_norm_is_another_run(tmp_path):
    recipes.start(recipe_of("digits-resnet", spectral_norm=True, steps=1), tmp_path / "run", quiet=True)
    with pytest.raises(UserError, match=r"task.spectral_norm is False, but the run was started with True"):
        recipes.start(recipe_of("digits-resnet", steps=2), tmp_path / "run", resume=True, quiet=True)


def test_penalties_take_one_pass_through_it():
    run = begun(recipe_of("digits-resnet", penalty="r1:1", spectral_norm=True))
    next(run)
    assert run.task.remark == "gradient of the penalties: one pass"


def test_it_is_refused_where_layers_scale_their_weights():
    with pytest.raises(UserError, match=r"task.spectral_norm is True, expected none for stylegan2: its critic's la"):
        begun(recipe_of("stylegan2-small", resolution=8, spectral_norm=True))
