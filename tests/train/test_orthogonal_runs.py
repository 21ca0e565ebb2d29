"""Runs whose generator is orthogonally regularised: its gradient in numpy, in which layers, what it comes to."""

import numpy as np
import pytest
import torch
from torch import nn

from fastgan import recipes
from fastgan.errors import UserError
from tests.train.steps import begun, gradients, log_of, networks, recipe_of, resumed

pytestmark = pytest.mark.usefixtures("one_thread")
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


@pytest.mark.parametrize("recipe", ["digits-resnet", "digits-dcgan"])
def test_the_generators_gradient_has_that_of_every_convolution_and_linear_layer(recipe):
    found, logs = [], []
    for strength in (0.0, STRENGTH):
        run = begun(recipe_of(recipe, orthogonal=strength), torch.float64)
        generator, _ = networks(run)
        generator.tables = nn.Embedding(5, 3)
        grads, _ = gradients(run, "generator", run.engine.batch())
        found.append({name: g for (name, _), g in zip(generator.named_parameters(), grads, strict=True)})
        logs.append(run.engine.log)
    plain, regularised = found
    assert plain.pop("tables.weight") is regularised.pop("tables.weight") is None

    weighed = [(name, layer) for name, layer in generator.named_modules() if hasattr(layer, "weight")]
    layers = {n: by_hand(x) for n, x in weighed if isinstance(x, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))}
    assert len(layers) == {"digits-resnet": 5, "digits-dcgan": 3}[recipe]
    for name, gradient in regularised.items():
        added = (gradient - plain[name]).numpy()
        layer = name.removesuffix(".weight")
        expected = STRENGTH * layers[layer][1] if layer in layers else np.zeros_like(added)
        np.testing.assert_allclose(added, expected, rtol=1e-9, atol=1e-12)
    expected = STRENGTH * sum(value for value, _ in layers.values())
    assert logs[1]["penalty_orthogonal"].item() == pytest.approx(expected, rel=1e-10)
    assert torch.equal(logs[0]["generator"], logs[1]["generator"])
    assert "penalty_orthogonal" not in logs[0]


@pytest.mark.parametrize("game", ["alternating", "extragradient", "consensus:1e-3"])
def test_filters_turn_away_from_each_other(game):
    """Under optimisers that take one gradient in a step, several, or differentiate it again."""
    sizes = []
    for strength in (1e-6, 0.1):
        run = begun(recipe_of("digits-dcgan", game=game, batch_size=8, loss="hinge", lr=2e-3, orthogonal=strength))
        for _ in range(4):
            step = next(run)
        sizes.append(step.log["penalty_orthogonal"].item() / strength)
    assert sizes[1] < 0.8 * sizes[0]


def test_a_resumed_run_goes_on_bit_for_bit(tmp_path):
    run = resumed(tmp_path, "digits-resnet", orthogonal=1e-4)
    assert all(line["penalty_orthogonal"] > 0 for line in log_of(run))
    with pytest.raises(UserError, match=r"task.orthogonal is 0.1, but the run was started with 0.0001; expected the s"):
        recipes.start(recipe_of("digits-resnet", orthogonal=0.1), run, resume=True, quiet=True)


def test_what_cannot_be():
    with pytest.raises(UserError, match=r"task.orthogonal is -1.0, expected greater than or equal to 0"):
        recipe_of("digits-dcgan", orthogonal=-1.0)
