"""Runs whose generator is orthogonally regularised: its gradient in numpy, in which layers, what it comes to."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from fastgan.data import load
from fastgan.errors import UserError
from fastgan.train import TrainConfig, resume
from fastgan.train.closures import Closures
from fastgan.train.regularisation import Regularisation
from fastgan.train.state import TrainState
from fastgan.train.step import train_step

STRENGTH = 0.01


def by_hand(layer):
    """||W W^T - diag||^2 of a layer's filters, which are the rows of W, and its gradient 4 (W W^T - diag) W."""
    w = layer.weight.detach().numpy()
    transposed = isinstance(layer, nn.ConvTranspose2d)
    filters = np.swapaxes(w, 0, 1) if transposed else w
    rows = filters.reshape(len(filters), -1)
    products = rows @ rows.T
    np.fill_diagonal(products, 0)
    slopes = (4 * products @ rows).reshape(filters.shape)
    return (products**2).sum(), np.swapaxes(slopes, 0, 1) if transposed else slopes


@pytest.mark.parametrize("preset", ["digits-resnet", "digits-dcgan"])
def test_the_generators_gradient_has_that_of_every_convolution_and_linear_layer(tiny, double, preset):
    gradients, steps = [], []
    for strength in (0.0, STRENGTH):
        made = double(tiny(preset=preset))
        made.generator.tables = nn.Embedding(5, 3)
        closures = Closures(made, Regularisation(orthogonal=strength))
        torch.manual_seed(3)
        closures.critic()
        closures.generator().backward(inputs=list(made.generator.parameters()))
        gradients.append({name: p.grad for name, p in made.generator.named_parameters()})
        steps.append(closures.step)
    plain, regularised = gradients
    assert plain.pop("tables.weight") is regularised.pop("tables.weight") is None

    found = [(name, layer) for name, layer in made.generator.named_modules() if hasattr(layer, "weight")]
    layers = {n: by_hand(x) for n, x in found if isinstance(x, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))}
    assert len(layers) == {"digits-resnet": 5, "digits-dcgan": 3}[preset]
    for name, gradient in regularised.items():
        added = (gradient - plain[name]).numpy()
        layer = name.removesuffix(".weight")
        expected = STRENGTH * layers[layer][1] if layer in layers else np.zeros_like(added)
        np.testing.assert_allclose(added, expected, rtol=1e-9, atol=1e-12)
    expected = STRENGTH * sum(value for value, _ in layers.values())
    assert steps[1].scalars()["penalty_orthogonal"].item() == pytest.approx(expected, rel=1e-10)
    assert torch.equal(steps[0].losses["generator"], steps[1].losses["generator"])
    assert "penalty_orthogonal" not in steps[0].scalars()


@pytest.mark.parametrize("optimizer", ["alternating", "extragradient", "consensus:1e-3"])
def test_filters_turn_away_from_each_other(tiny, optimizer):
    """Under optimisers that take one gradient in a step, several, or differentiate it again."""
    sizes = []
    for strength in (1e-6, 0.1):
        config = tiny(optimizer=optimizer, batch_size=8, loss="hinge", lr=2e-3)
        made = TrainState(config, load("digits", 8, 1), torch.device("cpu"))
        for _ in range(4):
            step = train_step(made, Regularisation(orthogonal=strength))
        sizes.append(step.penalties["orthogonal"].item() / strength)
    assert sizes[1] < 0.8 * sizes[0]


def test_a_resumed_run_goes_on_bit_for_bit(resumed):
    run = resumed(preset="digits-resnet", orthogonal=1e-4)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert all(line["penalty_orthogonal"] > 0 for line in lines)
    with pytest.raises(UserError, match=r"--orthogonal is 0.1, but the run was started with 0.0001; expected the same"):
        resume(run, quiet=True, steps=6, orthogonal=0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"orthogonal": -1.0}, "--orthogonal is -1.0, expected a number of at least 0"),
        ({"orthogonal": 1e-4, "preset": "stylegan2-small"}, "--orthogonal is 0.0001, expected 0: the styles of sty"),
    ],
)
def test_what_cannot_be(changes, message, tmp_path):
    with pytest.raises(UserError, match=message):
        TrainConfig.for_preset(**{"preset": "digits-dcgan", "out": tmp_path / "run", **changes})
