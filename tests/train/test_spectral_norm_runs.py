"""Runs with a spectrally normalised critic: trained, resumed with the same numbers, and refused otherwise."""

import pytest
import torch

from fastgan.errors import UserError
from fastgan.nn import SpectralNorm
from fastgan.train import load_generator, resume, train
from fastgan.train.checkpoint import read_checkpoint


@pytest.mark.parametrize("preset", ["digits-dcgan", "digits-resnet"])
def test_every_convolution_and_linear_layer_of_the_critic_is_normalised(tiny, preset):
    result = train(tiny(preset=preset, loss="hinge", spectral_norm=True, steps=2), quiet=True)
    tensors, _ = read_checkpoint(result.checkpoint)
    originals = [name for name in tensors if name.startswith("critic.") and name.endswith(".original")]
    plain, _ = read_checkpoint(train(tiny("plain", preset=preset, loss="hinge", steps=1), quiet=True).checkpoint)
    weights = [n for n, t in plain.items() if n.startswith("critic.") and n.endswith(".weight") and t.ndim in (2, 4)]
    layers = {name.removesuffix(".parametrizations.weight.original") for name in originals}
    assert layers == {n.removesuffix(".weight") for n in weights if "MinibatchDiscrimination" not in n} - {
        "critic.head.0"
    }
    assert load_generator(result.run).sample(4).isfinite().all()


def test_resumed_run_has_the_same_numbers(tiny):
    changes = {"preset": "digits-resnet", "loss": "hinge", "spectral_norm": True}
    whole = train(tiny("whole", steps=6, **changes), quiet=True)
    train(tiny("parts", steps=3, **changes), quiet=True)
    parts = resume(tiny("parts").out, quiet=True, steps=6)
    one, other = (read_checkpoint(result.checkpoint)[0] for result in (whole, parts))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_another_norm_is_another_run(tiny):
    result = train(tiny(preset="digits-resnet", spectral_norm=True, steps=1), quiet=True)
    with pytest.raises(UserError, match=r"--spectral-norm is False, but the run was started with True"):
        resume(result.run, quiet=True, steps=2, spectral_norm=False)


def test_penalties_take_one_pass_through_it(tiny, capsys):
    train(tiny(preset="digits-resnet", penalty="r1:1", spectral_norm=True, steps=2))
    assert capsys.readouterr().out.splitlines()[1] == "gradient of r1:1: one pass"


def test_the_norms_are_fastgans():
    from fastgan.data import DIGITS, load
    from fastgan.train import TrainConfig
    from fastgan.train.state import TrainState

    config = TrainConfig.for_preset("digits-resnet", out="unused", spectral_norm=True)
    state = TrainState(config, load(DIGITS, 8, 1), torch.device("cpu"))
    assert any(isinstance(module, SpectralNorm) for module in state.critic.modules())
    assert not any(isinstance(module, SpectralNorm) for module in state.generator.modules())
