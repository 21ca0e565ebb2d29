"""Class-conditional generators and the critics that know of classes, against numpy and by their parts."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from fastgan.models import (
    AuxiliaryClassifierCritic,
    DCGANGenerator,
    ProjectionCritic,
    ResNetCritic,
    ResNetGenerator,
)
from fastgan.nn import ConditionalBatchNorm2d
from fastgan.penalties import explain
from tests.models.of_recipes import grey

GENERATORS = {"digits-dcgan": DCGANGenerator, "digits-resnet": ResNetGenerator}
SMALL = {"latent_dim": 5, "channels": 1, "resolution": 16, "width": 4}
LABELS = torch.tensor([2, 0, 1, 2, 2, 0, 1, 0])


def norms(network):
    return [module for module in network.modules() if isinstance(module, ConditionalBatchNorm2d)]


@pytest.fixture
def conditional(generator):
    """Makes a generator of three classes in float64."""
    return lambda kind: kind(**SMALL, num_classes=3).double()


@pytest.mark.parametrize("kind", GENERATORS.values())
def test_each_class_is_normalised_to_its_own_mean_and_deviation(kind, conditional):
    """What every norm gives in training: B e(y) + (1 + G e(y)) * (x - mean) / std, with one e(y) for all of them."""
    made = conditional(kind)
    seen = []
    for norm in norms(made):
        norm.register_forward_hook(lambda module, inputs, output: seen.append((module, *inputs, output)))
    made(torch.randn(8, 5, dtype=torch.float64), LABELS)
    e = made.embed.weight.detach().numpy()
    assert len(seen) == len(norms(made)) > 2
    for norm, x, _, output in seen:
        x, gain, bias = (t.detach().numpy() for t in (x, norm.gain.weight, norm.bias.weight))
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
        for i, label in enumerate(LABELS.tolist()):
            standard = (x[i] - mean[:, None, None]) / np.sqrt(variance + 1e-5)[:, None, None]
            expected = (1 + gain @ e[label])[:, None, None] * standard + (bias @ e[label])[:, None, None]
            np.testing.assert_allclose(output[i].detach().numpy(), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", GENERATORS.values())
def test_with_one_vector_for_all_it_is_the_unconditional_generator(kind, conditional):
    """The same weights, gain and bias of the class the affine parameters of batch norm."""
    made, plain = conditional(kind), kind(**SMALL).double()
    made.embed.weight.data[:] = made.embed.weight.data[:1].clone()
    state = made.state_dict()
    e = state.pop("embed.weight")[0]
    for name, module in made.named_modules():
        if isinstance(module, ConditionalBatchNorm2d):
            state = {k: v for k, v in state.items() if not k.startswith(f"{name}.")}
            state[f"{name}.weight"], state[f"{name}.bias"] = 1 + module.gain.weight @ e, module.bias.weight @ e
            state |= {f"{name}.{key}": value for key, value in module.norm.state_dict().items()}
    plain.load_state_dict(state)
    z = torch.randn(8, 5, dtype=torch.float64)
    torch.testing.assert_close(made(z, LABELS), plain(z), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", GENERATORS.values())
def test_in_evaluation_an_image_depends_on_its_own_class_alone(kind, conditional):
    made = conditional(kind).eval()
    z = torch.randn(8, 5, dtype=torch.float64)
    images = made(z, LABELS)
    for i in range(8):
        torch.testing.assert_close(made(z[i : i + 1], LABELS[i : i + 1])[0], images[i], rtol=1e-10, atol=1e-12)
    changed = LABELS.clone()
    changed[3] = 1
    differs = (made(z, changed) - images).abs().amax((1, 2, 3)) > 1e-6
    assert differs.tolist() == [i == 3 for i in range(8)]


@pytest.mark.parametrize("recipe", GENERATORS)
def test_a_generator_without_classes_has_nothing_of_them(recipe):
    """No class of ours, and the names of the tensors that checkpoints hold."""
    made, _ = grey(recipe)
    assert not norms(made)
    assert {type(m) for m in made.modules() if isinstance(m, nn.Sequential)} == {nn.Sequential}
    assert not any("gain" in name or "norm." in name or "embed" in name for name in made.state_dict())


@pytest.mark.parametrize("kind", GENERATORS.values(), ids=GENERATORS)
def test_labels_where_they_belong(kind):
    z = torch.randn(8, 5)
    with pytest.raises(ValueError, match=rf"{kind.__name__}: labels is None, expected int64 \[8\], 0 to 2"):
        kind(**SMALL, num_classes=3)(z)
    with pytest.raises(ValueError, match=rf"{kind.__name__}: labels are given, expected none: it was built without"):
        kind(**SMALL)(z, LABELS)
    with pytest.raises(ValueError, match=rf"{kind.__name__}: labels has shape \[7\], expected \[8\]"):
        kind(**SMALL, num_classes=3)(z, LABELS[:7])
    with pytest.raises(ValueError, match=rf"{kind.__name__}: num_classes is 0, expected an integer of at least 1"):
        kind(**SMALL, num_classes=0)


@pytest.mark.parametrize("recipe", [*GENERATORS, "dcgan"])
def test_projection_written_out_in_numpy(recipe, generator):
    critic = ProjectionCritic(grey(recipe)[1].double().eval(), 3).double()
    images = torch.randn(8, 1, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        found, plain = critic(images, LABELS), critic.critic(images)
        phi = critic.critic.features(images).numpy()
    if recipe == "digits-resnet":
        phi = phi.mean(axis=(2, 3))
    table = critic.embed.weight.detach().numpy()
    expected = [[plain[i, 0] + (table[y] * phi[i]).sum()] for i, y in enumerate(LABELS.tolist())]
    np.testing.assert_allclose(found.numpy(), np.array(expected), rtol=1e-10, atol=1e-12)
    assert np.abs(found.numpy() - plain.numpy()).max() > 1e-3


def test_projection_leaves_penalties_in_one_pass(capsys):
    critic = ProjectionCritic(ResNetCritic(channels=1, resolution=8, width=4), 3)
    verdict = explain(critic, torch.randn(8, 1, 8, 8), LABELS)
    assert verdict.eligible
    assert verdict.weights == len(list(critic.parameters()))


@pytest.mark.parametrize("recipe", [*GENERATORS, "dcgan"])
def test_two_heads_over_the_same_features(recipe, generator):
    critic = AuxiliaryClassifierCritic(grey(recipe)[1].eval(), 3)
    images = torch.randn(8, 1, 8, 8)
    with torch.no_grad():
        found = critic(images)
        assert found.shape == (8, 4)
        torch.testing.assert_close(found[:, :1], critic.critic(images))
        phi = critic.critic.features(images)
        phi = phi.mean((2, 3)) if recipe == "digits-resnet" else phi
        expected = phi.numpy() @ critic.classifier.weight.numpy().T + critic.classifier.bias.numpy()
    np.testing.assert_allclose(found[:, 1:].numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [ProjectionCritic, AuxiliaryClassifierCritic])
def test_what_critics_of_classes_refuse(kind):
    name = kind.__name__
    with pytest.raises(TypeError, match=f"{name}: critic is Linear, expected a module with `penultimate`"):
        kind(torch.nn.Linear(4, 1), 3)
    with pytest.raises(ValueError, match=f"{name}: num_classes is 0, expected an integer of at least 1"):
        kind(ResNetCritic(1, 8, 4), 0)
    several = kind(ResNetCritic(1, 8, 4, outputs=2), 3)
    labels = (LABELS,) if kind is ProjectionCritic else ()
    with pytest.raises(ValueError, match=re.escape(f"{name}: the critic's head gives shape [8, 2], expected [8, 1]")):
        several(torch.randn(8, 1, 8, 8), *labels)


@pytest.mark.parametrize("kind", [ProjectionCritic, AuxiliaryClassifierCritic])
def test_a_head_that_overwrites_the_features_is_refused(kind):
    made = ResNetCritic(1, 8, 4)
    made.head = nn.Sequential(nn.LeakyReLU(0.2, inplace=True), made.head)
    labels = (torch.zeros(8, dtype=torch.int64),) if kind is ProjectionCritic else ()
    with pytest.raises(ValueError, match=f"{kind.__name__}: the features were changed in place by the critic's head"):
        kind(made, 3)(torch.randn(8, 1, 8, 8), *labels)


def test_labels_that_projection_refuses():
    critic, images = ProjectionCritic(ResNetCritic(1, 8, 4), 3), torch.randn(8, 1, 8, 8)
    with pytest.raises(TypeError, match=r"ProjectionCritic: labels is torch.float32, expected labels, torch.int64"):
        critic(images, LABELS.float())
    with pytest.raises(ValueError, match=r"ProjectionCritic: labels has shape \[1\], expected \[8\]"):
        critic(images, LABELS[:1])
    with pytest.raises(IndexError):
        critic(images, LABELS + 1)
