"""The residual pair: sizes, and a critic that is affine wherever no activation changes its sign."""

import math

import pytest
import torch

import fastgan
from fastgan import recipes
from fastgan.models import ResNetCritic, ResNetGenerator
from fastgan.models.resnet import DownBlock, UpBlock
from fastgan.penalties import explain
from tests.models.of_recipes import grey


@pytest.mark.parametrize("resolution", [8, 16, 64])
def test_sizes(resolution):
    generator = ResNetGenerator(latent_dim=5, channels=3, resolution=resolution, width=4)
    critic = ResNetCritic(channels=3, resolution=resolution, width=4)
    images = generator(torch.randn(2, 5))
    assert images.shape == (2, 3, resolution, resolution)
    assert critic(images).shape == (2, 1)


@pytest.mark.parametrize("resolution", [0, 4, 12, 33])
def test_resolution_must_be_a_power_of_two(resolution):
    message = f"resolution is {resolution}, expected a power of two"
    with pytest.raises(ValueError, match=message):
        ResNetGenerator(latent_dim=5, channels=1, resolution=resolution, width=4)
    with pytest.raises(ValueError, match=message):
        ResNetCritic(channels=1, resolution=resolution, width=4)


@pytest.mark.parametrize("resolution", [8, 32])
def test_penalties_take_one_pass(resolution, capsys):
    critic = ResNetCritic(channels=3, resolution=resolution, width=4)
    verdict = explain(critic, torch.randn(2, 3, resolution, resolution))
    assert verdict.eligible
    assert verdict.weights == len(list(critic.parameters()))
    assert capsys.readouterr().out.startswith("one pass")


def test_the_recipe_s_critic_takes_one_pass():
    assert recipes.read("digits-resnet").task.penalty
    assert explain(grey("digits-resnet")[1], torch.randn(2, 1, 8, 8)).eligible


def test_critic_is_piecewise_affine_and_judges_each_image_alone(generator):
    critic = ResNetCritic(channels=1, resolution=8, width=4).double()
    x, d = torch.randn(2, 6, 1, 8, 8, dtype=torch.float64, generator=generator)

    def slope(points):
        points = points.requires_grad_()
        return torch.autograd.grad(critic(points).sum(), points)[0]

    # A smooth critic's gradient would change by about 1e-8; a kink is this near to one image in a thousand.
    change = (slope(x + 1e-8 * d) - slope(x.clone())).abs().amax((1, 2, 3))
    assert (change < 1e-13).sum() >= 5
    assert slope(x.clone()).abs().amax() > 1e-4
    with torch.no_grad():
        torch.testing.assert_close(torch.cat([critic(one[None]) for one in x]), critic(x), rtol=1e-12, atol=1e-13)


def test_blocks_are_the_textbook_s(generator):
    """Residual plus 1x1 skip, written with plain PyTorch and the skip at the higher resolution."""
    functional = torch.nn.functional
    x = torch.randn(3, 4, 8, 8, dtype=torch.float64, generator=generator)

    def lrelu(y, layer):
        return math.sqrt(2) * functional.leaky_relu(y + layer.bias.view(1, -1, 1, 1), 0.2)

    down = DownBlock(4, 6).double()
    first, conv1, second, conv2 = down.residual
    residual = conv2(lrelu(conv1(lrelu(x, first)), second))
    torch.testing.assert_close(down(x), functional.avg_pool2d(residual + down.skip(x), 2), rtol=1e-9, atol=1e-12)

    up = UpBlock(4, 3).double()
    norm, act = up.before
    big = functional.interpolate(lrelu(norm(x), act), scale_factor=2, mode="nearest")
    conv1, norm, act, conv2 = up.after
    residual = conv2(lrelu(norm(conv1(big)), act))
    skip = up.skip(functional.interpolate(x, scale_factor=2, mode="nearest"))
    torch.testing.assert_close(up(x), residual + skip, rtol=1e-9, atol=1e-12)


def test_same_on_reference_and_compiled_backends():
    generator, critic = (network.double().eval() for network in grey("digits-resnet"))
    latents = torch.randn(4, generator.latent_dim, dtype=torch.float64)

    def run():
        critic.zero_grad()
        logits = critic(generator(latents))
        logits.sum().backward()
        return [logits, *(parameter.grad.clone() for parameter in critic.parameters())]

    compiled = run()
    with fastgan.backend("reference"):
        reference = run()
    for ours, theirs in zip(compiled, reference, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
