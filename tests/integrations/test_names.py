"""Weights in NVIDIA's, rosinality's and our naming: the same images and logits in float64, from networks of each."""

import importlib

import pytest
import torch

from fastgan.integrations import stylegan
from fastgan.models import StyleGAN2Critic, StyleGAN2Generator

WIDTHS = {4: 6, 8: 6, 16: 4}  # min(64 // resolution, 6)
EXACT = {"rtol": 1e-10, "atol": 1e-10}


class Nvidia:
    name, from_theirs, to_theirs = "nvidia", staticmethod(stylegan.from_nvidia), staticmethod(stylegan.to_nvidia)
    w_avg = True

    @staticmethod
    def networks(channels=3, z_dim=5):
        code = importlib.import_module("training.networks_stylegan2")
        arguments = {"img_channels": channels, "channel_base": 64, "channel_max": 6}
        return code.Generator(z_dim, 7, 16, num_layers=3, **arguments), code.Discriminator(16, **arguments)

    @staticmethod
    def synthesis(generator, ws, noise):
        return generator.synthesis(ws, noise_mode=noise)

    @staticmethod
    def images(generator, z, psi):
        return generator(z, truncation_psi=psi, noise_mode="const")


class Rosinality:
    name = "rosinality"
    from_theirs, to_theirs = staticmethod(stylegan.from_rosinality), staticmethod(stylegan.to_rosinality)
    w_avg = False

    @staticmethod
    def networks(channels=3, z_dim=7):
        code = importlib.import_module("model")
        code.scaled = True
        return code.Generator(16, 7, 3, WIDTHS), code.Discriminator(16, WIDTHS)

    @staticmethod
    def synthesis(generator, ws, noise):
        return generator(ws, input_is_latent=True, noise=noise == "const")

    @staticmethod
    def images(generator, z, psi):
        return generator(z, truncation=psi, truncation_latent=generator.style(torch.zeros_like(z[:1])) * 0)


BOTH = pytest.mark.parametrize("code", [Nvidia, Rosinality])


def fresh(code, **arguments):
    """Their networks with no tensor at its initial value, in float64; every value is one of float32."""
    pair = code.networks(**arguments)
    for network in pair:
        with torch.no_grad():
            for name, tensor in network.state_dict().items():
                if not name.endswith(("kernel", "resample_filter")) and "weight" not in name:
                    tensor.normal_()
                if name.endswith(("noise.weight", "noise_strength")):
                    tensor.uniform_(0.5, 1)
        network.double()
    return pair


def exact(network):
    """In float64; upfirdn2d's filters stay float32."""
    network.double()
    for module in network.modules():
        if getattr(module, "resample_filter", None) is not None:
            module.resample_filter = module.resample_filter.float()
    return network


def draw(generator, *shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@BOTH
def test_their_networks_as_ours(code, codebase, generator):
    codebase(code.name)
    their_generator, their_critic = fresh(code)
    state = code.from_theirs(their_generator.state_dict())
    ours, critic = (
        exact(stylegan.build_generator(state)),
        exact(stylegan.build_critic(code.from_theirs(their_critic.state_dict()))),
    )
    ws = draw(generator, 4, ours.num_ws, 7)  # another w for each layer: their order shows
    for noise in ("const", "none"):
        theirs = code.synthesis(their_generator, ws, noise)
        torch.testing.assert_close(ours.synthesis(ws, noise), theirs, **EXACT)
        torch.testing.assert_close(critic(theirs), their_critic(theirs), **EXACT)
    z = draw(generator, 4, ours.mapping.layers[0].weight.shape[1])
    for psi in (1, 0.5):
        torch.testing.assert_close(ours(z, psi), code.images(their_generator, z, psi), **EXACT)


@BOTH
def test_gradients_have_the_same_scale(code, codebase, generator):
    """The equalised learning rates are the same: an optimiser's step does the same in either naming."""
    codebase(code.name)
    theirs = fresh(code)
    ours = [
        exact(build(code.from_theirs(network.state_dict())))
        for build, network in zip((stylegan.build_generator, stylegan.build_critic), theirs, strict=True)
    ]
    z = draw(generator, 4, ours[0].mapping.layers[0].weight.shape[1])
    ours[1](ours[0](z)).sum().backward()
    theirs[1](code.images(theirs[0], z, 1)).sum().backward()
    for our_network, their_network in zip(ours, theirs, strict=True):
        gradients = {name: torch.zeros_like(value) for name, value in their_network.state_dict().items()}
        gradients |= {name: parameter.grad for name, parameter in their_network.named_parameters()}
        filters = {n: v for n, v in their_network.state_dict().items() if n.endswith(("kernel", "resample_filter"))}
        moved = code.from_theirs({**gradients, **filters})
        for name, parameter in our_network.named_parameters():
            torch.testing.assert_close(parameter.grad, moved[name], rtol=1e-8, atol=1e-8)


@BOTH
def test_there_and_back(code, codebase, seed):
    codebase(code.name)
    torch.manual_seed(seed)
    for network in fresh(code):
        theirs = network.state_dict()
        back = code.to_theirs(code.from_theirs(theirs))
        assert set(back) == set(theirs)
        assert all(torch.equal(back[name].double(), value) for name, value in theirs.items())
        network.load_state_dict(back, strict=True)
        without = {n: v for n, v in theirs.items() if not n.endswith(("kernel", "resample_filter"))}
        assert code.from_theirs(without).keys() == code.from_theirs(theirs).keys()


@BOTH
def test_our_networks_as_theirs(code, codebase, generator):
    codebase(code.name)
    z_dim = 7 if code is Rosinality else 5
    ours = StyleGAN2Generator(16, 3, z_dim, 7, 3, width=64, max_width=6).eval()
    critic = StyleGAN2Critic(16, 3, width=64, max_width=6)
    with torch.no_grad():
        for parameter in [*ours.parameters(), *critic.parameters()]:
            parameter.add_(torch.randn_like(parameter))
    their_generator, their_critic = code.networks(z_dim=z_dim)
    their_generator.load_state_dict(code.to_theirs(ours.state_dict()))
    their_critic.load_state_dict(code.to_theirs(critic.state_dict()))
    z = draw(generator, 4, z_dim)
    theirs = code.images(their_generator.double(), z, 1)
    torch.testing.assert_close(exact(ours)(z), theirs, **EXACT)
    torch.testing.assert_close(exact(critic)(theirs), their_critic.double()(theirs), **EXACT)
    state = code.from_theirs(code.to_theirs(ours.state_dict()))
    assert state.keys() == ours.state_dict().keys()


def test_rosinality_mean_w_and_its_epsilon(codebase, generator):
    codebase("rosinality")
    theirs, _ = fresh(Rosinality)
    mean = draw(generator, 7)
    ours = exact(stylegan.build_generator(stylegan.from_rosinality(theirs.state_dict(), mean[None].float())))
    mean = mean.float().double()
    z = draw(generator, 4, 7)
    expected = theirs(z, truncation=0.3, truncation_latent=mean)
    torch.testing.assert_close(ours(z, 0.3), expected, **EXACT)
    importlib.import_module("model").scaled = False  # where they have the epsilon: ten layers, 5e-9 each
    theirs_as_published = theirs(z, truncation=0.3, truncation_latent=mean)
    torch.testing.assert_close(ours(z, 0.3), theirs_as_published, rtol=0, atol=1e-6 * expected.abs().max().item())
    with pytest.raises(ValueError, match=r"latent_avg has shape \[3\], expected \[7\]"):
        stylegan.from_rosinality(theirs.state_dict(), torch.zeros(3))


def test_grey_images_and_other_sizes(codebase, generator):
    codebase("nvidia")
    their_generator, their_critic = fresh(Nvidia, channels=1, z_dim=9)
    ours = stylegan.build_generator(stylegan.from_nvidia(their_generator.state_dict()))
    critic = stylegan.build_critic(stylegan.from_nvidia(their_critic.state_dict()))
    z = draw(generator, 2, 9)
    images = their_generator(z)
    assert images.shape == (2, 1, 16, 16)
    torch.testing.assert_close(exact(ours)(z), images, **EXACT)
    torch.testing.assert_close(exact(critic)(images), their_critic(images), **EXACT)
