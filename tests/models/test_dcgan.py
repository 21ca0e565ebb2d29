"""The DCGAN pair and the recipes built from it."""

import pytest
import torch

import fastgan
from fastgan.models import BatchNormCritic, DCGANCritic, DCGANGenerator
from tests.models.of_recipes import grey, pair_of


@pytest.mark.parametrize(
    ("name", "channels", "resolution"),
    [
        ("digits-dcgan", 1, 8),
        ("digits-resnet", 1, 8),
        ("dcgan", 3, 64),
        ("stylegan2", 3, 8),  # at its own resolution it would take minutes
        ("stylegan2-small", 3, 8),
    ],
)
def test_the_networks_of_a_recipe_fit_each_other(name, channels, resolution):
    generator, critic = pair_of(name, *([f"data.resolution={resolution}"] if "stylegan2" in name else []))
    images = generator(torch.randn(6, generator.latent_dim))
    assert images.shape == (6, channels, resolution, resolution)
    assert "stylegan2" in name or images.abs().max() <= 1  # a StyleGAN2 has no tanh at its end
    logits = critic(images)
    assert logits.shape == (6, 1)
    logits.sum().backward()
    for module in (generator, critic):
        assert all(parameter.grad is not None for parameter in module.parameters())


@pytest.mark.parametrize("resolution", [8, 16, 64])
def test_sizes(resolution):
    generator = DCGANGenerator(latent_dim=5, channels=3, resolution=resolution, width=4)
    critic = DCGANCritic(
        channels=3, resolution=resolution, width=4, features=7, similarities=2, kernel_dims=3, dropout=0.0, noise=0.0
    )
    assert critic(generator(torch.randn(2, 5))).shape == (2, 1)


@pytest.mark.parametrize("resolution", [8, 32])
def test_batch_norm_critic(resolution):
    """Its first layer is without; the others make it blind to the scale of the weights before them."""
    critic = BatchNormCritic(channels=3, resolution=resolution, width=4, outputs=7).double()
    images = torch.randn(6, 3, resolution, resolution).double()
    logits = critic(images)
    assert logits.shape == (6, 7)
    norms = [layer for layer in critic.features if isinstance(layer, torch.nn.BatchNorm2d)]
    assert [norm.num_features for norm in norms] == [4 * 2**i for i in range(1, resolution.bit_length() - 2)]
    convolutions = [layer for layer in critic.features if isinstance(layer, torch.nn.Conv2d)]
    with torch.no_grad():
        convolutions[-1].weight *= 3
    torch.testing.assert_close(critic(images), logits, rtol=1e-4, atol=1e-4)  # but for the norm's epsilon
    first = critic.features[:2]
    torch.testing.assert_close(first(3 * images), 3 * first(images))


@pytest.mark.parametrize("resolution", [0, 4, 12, 33])
def test_resolution_must_be_a_power_of_two(resolution):
    with pytest.raises(ValueError, match=f"resolution is {resolution}, expected a power of two"):
        DCGANGenerator(latent_dim=5, channels=1, resolution=resolution, width=4)


def test_critic_sees_the_rest_of_the_batch():
    """The same image scores differently among copies of itself than among strangers."""
    critic = grey("digits-dcgan")[1].eval()
    images = torch.rand(8, 1, 8, 8) * 2 - 1
    copies = images[:1].expand(8, -1, -1, -1)
    assert (critic(images)[0] - critic(copies)[0]).abs() > 1e-4


def test_same_on_reference_and_compiled_backends():
    generator, critic = (network.double().eval() for network in grey("digits-dcgan"))
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
