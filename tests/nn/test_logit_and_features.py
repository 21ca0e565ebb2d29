"""A critic's logit beside the outputs of one of its layers."""

import re

import pytest
import torch
from torch import nn

import fastgan
from fastgan.losses import feature_matching_with, wasserstein
from fastgan.nn import LogitAndFeatures, spectral_norm_
from fastgan.penalties import R1, WGANGP
from tests.penalties.critics import gradients, relative_error


class Critic(nn.Module):
    def __init__(self, outputs=1):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(2, 3, 3), nn.LeakyReLU(0.2))
        self.embed, self.head = nn.Embedding(4, 12), nn.Linear(12, outputs)

    def forward(self, x, labels=None):
        h = self.features(x).flatten(1)
        return self.head(h if labels is None else h * self.embed(labels))


@pytest.fixture
def critic(generator):
    return Critic().double()


@pytest.fixture
def images(generator):
    return torch.randn(5, 2, 4, 4, dtype=torch.float64, generator=generator)


def test_it_is_the_logit_and_then_the_layer(critic, images):
    both, labels = LogitAndFeatures(critic, "features"), torch.tensor([0, 3, 1, 2, 0])
    expected = torch.cat([critic(images), critic.features(images).flatten(1)], 1)
    assert torch.equal(both(images), expected)
    assert torch.equal(both(images, labels)[:, :1], critic(images, labels))
    assert torch.equal(LogitAndFeatures(critic, "features.0")(images)[:, 1:], critic.features[0](images).flatten(1))
    assert not critic.features._forward_hooks
    assert [f"critic.{name}" for name in critic.state_dict()] == list(both.state_dict())
    assert both(images[:0]).shape == (0, 13)


def test_another_layer_in_its_place_is_seen(critic, images):
    both = LogitAndFeatures(critic, "features")
    critic.features = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh()).double()
    assert torch.equal(both(images)[:, 1:], critic.features(images).flatten(1))
    spectral_norm_(both)
    both.eval()
    assert torch.equal(both(images)[:, 1:], critic.features(images).flatten(1))


def test_both_parts_have_their_gradient(critic, images):
    both, weights = LogitAndFeatures(critic, "features"), torch.randn(13, dtype=torch.float64)
    found = gradients(critic, (both(images) * weights).sum())
    expected = gradients(
        critic, weights[0] * critic(images).sum() + (critic.features(images).flatten(1) * weights[1:]).sum()
    )
    assert relative_error(found, expected) <= 1e-12


def test_penalties_are_of_the_logit(critic, images):
    """The same as those of the critic alone in the game that it plays."""
    fake, penalties = 0.5 * images.flip(0) + 0.1, (R1(2.0), WGANGP(10.0))
    torch.manual_seed(3)
    alone = fastgan.critic_loss(critic, images, fake, loss="wasserstein", penalties=penalties, method="double_backward")
    expected = gradients(critic, alone)
    torch.manual_seed(3)
    game = feature_matching_with(wasserstein)
    found = fastgan.critic_loss(LogitAndFeatures(critic, "features"), images, fake, loss=game, penalties=penalties)
    torch.testing.assert_close(torch.Tensor(found.detach()), torch.Tensor(alone.detach()))
    for name, norm in alone.gradient_norms.items():
        torch.testing.assert_close(found.gradient_norms[name], norm)
    assert relative_error(gradients(critic, found), expected) <= 1e-10


def test_a_layer_that_is_overwritten_is_refused_and_what_overwrites_is_not(generator):
    x = torch.randn(5, 3)
    network = nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU(0.2, inplace=True), nn.Linear(4, 1))
    after = torch.nn.functional.leaky_relu(network[0](x), 0.2)
    assert torch.equal(LogitAndFeatures(network, "1")(x)[:, 1:], after)
    for view in ((), (nn.Unflatten(1, (2, 2)), nn.Flatten())):
        overwritten = LogitAndFeatures(nn.Sequential(network[0], *view, *network[1:]), "0")
        with pytest.raises(ValueError, match="what layer '0' returned was changed in place by a layer after it"):
            overwritten(x)
        with torch.inference_mode():  # where nobody counts changes
            assert torch.equal(overwritten(x)[:, 1:], network[0](x))


def test_what_is_refused(critic, images):
    with pytest.raises(TypeError, match=r"LogitAndFeatures: critic is function, expected a torch\.nn\.Module"):
        LogitAndFeatures(lambda x: x, "features")
    for layer in ("body", ""):
        with pytest.raises(ValueError, match=f"layer is {layer!r}, expected the name of a submodule of the critic"):
            LogitAndFeatures(critic, layer)
    shared = nn.Flatten()
    wrong = {
        "the critic gave outputs of shape [5, 2] for 5 samples, expected one logit for each": (Critic(2), "features"),
        "layer 'embed' was called 0 times, expected once": (Critic(), "embed"),
        "layer '0' was called 2 times, expected once": (nn.Sequential(shared, shared, nn.Linear(32, 1)), "0"),
    }
    for message, (network, layer) in wrong.items():
        with pytest.raises(ValueError, match=re.escape(message)):
            LogitAndFeatures(network.double(), layer)(images)

    class Flat(Critic):
        def forward(self, x):
            self.embed(torch.zeros([], dtype=torch.int64))
            return super().forward(x)

    with pytest.raises(ValueError, match=re.escape("layer 'embed' returned shape [12], expected [5, ...]")):
        LogitAndFeatures(Flat().double(), "embed")(images)
