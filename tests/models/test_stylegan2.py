"""StyleGAN2: sizes, what each latent controls, mixing, truncation, and the critic."""

import copy

import pytest
import torch

import fastgan
from fastgan import recipes
from fastgan.losses import LOSSES
from fastgan.models import StyleGAN2Critic, StyleGAN2Generator
from fastgan.models.headed import is_headed
from fastgan.models.stylegan2 import channels_at, levels
from fastgan.ops import minibatch_stddev, setup_filter, upsample2d
from fastgan.penalties import critic_loss, explain, parse
from fastgan.terms import path_length
from tests.models.of_recipes import pair_of

SMALL = {"z_dim": 6, "w_dim": 6, "mapping_layers": 2, "width": 64, "max_width": 8}


@pytest.mark.parametrize("resolution", [8, 32, 64, (16, 32), (64, 80), (8, 10)])
@pytest.mark.parametrize("channels", [1, 3])
def test_sizes(resolution, channels):
    generator = StyleGAN2Generator(resolution, channels, **SMALL)
    critic = StyleGAN2Critic(resolution, channels, width=64, max_width=8)
    images = generator(torch.randn(5, 6))
    size = (resolution, resolution) if isinstance(resolution, int) else resolution
    assert images.shape == (5, channels, *size)
    logits = critic(images)
    assert logits.shape == (5, 1)
    logits.sum().backward()
    assert all(p.grad is not None for network in (generator, critic) for p in network.parameters())


def test_levels_and_widths_are_the_paper_s():
    assert levels(1024)[0] == (4, 4)
    assert len(levels(1024)) == 9
    assert levels((16, 32)) == [(4, 8), (8, 16), (16, 32)]
    # Table 1 of Karras et al. 2018 with twice the channels: config F.
    expected = [512, 512, 512, 512, 512, 512, 256, 128, 64, 32][1:]
    assert [channels_at(size, 32768, 512) for size in levels(1024)] == expected
    assert StyleGAN2Generator(16, **SMALL).num_ws == 6


@pytest.mark.parametrize("resolution", [4, 12, 2048, (16, 17), (8, 2048), (0, 8)])
def test_wrong_resolutions_are_refused(resolution):
    for make in (StyleGAN2Generator, StyleGAN2Critic):
        with pytest.raises(ValueError, match=r"resolution is .*, expected 8 to 1024"):
            make(resolution)


def test_ws_control_the_layers_from_coarse_to_fine(generator):
    """A w below some layer changes nothing above it: the image's lowest level is the average of its pixels."""
    network = StyleGAN2Generator(32, **SMALL).double().eval()
    ws = network.ws(torch.randn(1, 6, generator=generator, dtype=torch.float64)).clone()
    seen = []
    hooks = [block.register_forward_hook(lambda m, a, out: seen.append(out[0])) for block in network.synthesis.blocks]
    network.synthesis(ws)
    before, seen[:] = list(seen), []
    changed = ws.clone()
    changed[:, 4:] += 1  # the fifth w and those after it: the second layer of 16x16 and all of 32x32
    network.synthesis(changed)
    for hook in hooks:
        hook.remove()
    same = [torch.equal(a, b) for a, b in zip(before, seen, strict=True)]
    assert same == [True, True, False, False]


def test_mixing_happens_in_training_only_and_as_often_as_asked(generator):
    z = torch.randn(2, 6, generator=generator)
    network = StyleGAN2Generator(32, **SMALL, mixing_probability=0.5)

    def mixed():
        ws = network.ws(z)
        crossed = (ws != ws[:, :1]).any(2)
        assert torch.equal(crossed[0], crossed[1])  # one crossover for the batch
        assert (crossed.long().diff(dim=1) >= 0).all()  # and all layers after it
        return crossed[0, -1].item()

    found = sum(mixed() for _ in range(200))
    assert 60 < found < 140
    network.mixing_probability = 0.0
    assert not any(mixed() for _ in range(20))
    network.mixing_probability = 1.0
    assert all(mixed() for _ in range(20))
    network.eval()
    assert not any(mixed() for _ in range(20))


@pytest.mark.parametrize("psi", [1.0, 0.6])
def test_mixing_takes_the_layers_after_a_crossover_from_other_latents(psi, generator):
    """Coarse layers have the first w, fine ones the other's, from its place on; both truncated."""
    network = StyleGAN2Generator(32, **SMALL, mixing_probability=1.0).double()
    network.mapping.w_avg_decay = 1.0  # its average stays what it is
    network.mapping.w_avg.normal_(generator=generator)
    z = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    crossovers = set()
    for seed in range(60):
        torch.manual_seed(seed)
        ws = network.ws(z, psi)
        torch.manual_seed(seed)
        torch.rand([])  # whether to mix
        other = network.mapping(torch.randn(3, 6), psi)
        first = network.mapping(z, psi)
        crossover = int(torch.randint(1, network.num_ws, []))
        crossovers.add(crossover)
        assert torch.equal(ws[:, :crossover], first[:, None].expand(-1, crossover, -1))
        assert torch.equal(ws[:, crossover:], other[:, None].expand(-1, network.num_ws - crossover, -1))
        assert not torch.isclose(first, other).any(1).all()
    assert crossovers == set(range(1, network.num_ws)), "everywhere between two layers"


def test_a_mixed_image_is_coarsely_the_first_latent_s(generator):
    """Up to the crossover every layer computes the same activations as unmixed, after it others."""
    network = StyleGAN2Generator(32, **SMALL, mixing_probability=1.0).double()
    z = torch.randn(2, 6, generator=generator, dtype=torch.float64)
    convolutions = [conv for block in network.synthesis.blocks for conv in (block.up, block.conv) if conv is not None]
    seen = []
    for conv in convolutions:
        conv.register_forward_hook(lambda m, a, out: seen.append(out))
    mixed = network.ws(z)
    alone = network.mapping(z)[:, None].expand(-1, network.num_ws, -1)
    crossover = (mixed != alone).any(2).any(0).tolist().index(True)
    for ws in (mixed, alone):
        network.synthesis(ws, noise="none")
    layers = len(convolutions)
    same = [torch.equal(a, b) for a, b in zip(seen[:layers], seen[layers:], strict=True)]
    assert same == [layer < crossover for layer in range(layers)]


def test_the_image_is_the_sum_of_its_levels(generator):
    """The layers in their order, each with its w; the layer of an image shares it with the first of the next level."""
    network = StyleGAN2Generator(16, **SMALL).double().eval()
    ws = torch.randn(2, 6, 6, generator=generator, dtype=torch.float64)
    four, eight, sixteen = network.synthesis.blocks
    x = four.conv(network.synthesis.const.expand(2, -1, -1, -1), ws[:, 0], "const")
    image = four.to_rgb(x, ws[:, 1])
    x = eight.conv(eight.up(x, ws[:, 1], "const"), ws[:, 2], "const")
    image = upsample2d(image, setup_filter([1, 3, 3, 1])) + eight.to_rgb(x, ws[:, 3])
    x = sixteen.conv(sixteen.up(x, ws[:, 3], "const"), ws[:, 4], "const")
    image = upsample2d(image, setup_filter([1, 3, 3, 1])) + sixteen.to_rgb(x, ws[:, 5])
    torch.testing.assert_close(network.synthesis(ws), image)


def test_the_critic_is_its_blocks(generator):
    """Residual: each branch by the root of 1/2. The images of a group see each other once, at 4x4 pixels."""
    critic = StyleGAN2Critic(16, width=64, max_width=8).double()
    images = torch.randn(8, 3, 16, 16, generator=generator, dtype=torch.float64)
    x = critic.from_rgb(images)
    for block in critic.blocks:
        x = (block.conv1(block.conv0(x)) + block.skip(x)) / 2**0.5
    x = critic.conv(minibatch_stddev(x, 4, 1))
    torch.testing.assert_close(critic(images), critic.out(critic.fc(x.flatten(1))))


def test_psi_of_zero_is_the_image_of_the_average_w(generator):
    network = StyleGAN2Generator(16, **SMALL).double()
    for _ in range(3):
        network(torch.randn(8, 6, generator=generator, dtype=torch.float64))
    network.eval()
    average = network.mapping.w_avg
    assert average.any()
    images = network(torch.randn(4, 6, generator=generator, dtype=torch.float64), psi=0)
    expected = network.synthesis(average.expand(4, network.num_ws, -1))
    torch.testing.assert_close(images, expected, rtol=1e-12, atol=1e-12)
    assert expected.std() > 0.01


def test_truncation_draws_towards_the_mean(generator):
    """In the space of w. The images of a network that has learnt nothing need not vary more with more varied w."""
    network = StyleGAN2Generator(16, **SMALL)
    network.mapping.w_avg.normal_(generator=generator)
    network.eval()
    z = torch.randn(64, 6, generator=generator)
    mean, whole = network.mapping.w_avg, network.mapping(z)
    for psi in (0.0, 0.3, 0.5, 1.0, 1.5):
        w = mean + psi * (whole - mean)
        torch.testing.assert_close(network.ws(z, psi), w[:, None].expand(-1, network.num_ws, -1))
        torch.testing.assert_close(network(z, psi=psi), network.synthesis(network.ws(z, psi)), rtol=0, atol=0)
    spread = [network(z, psi=psi).std(0).mean().item() for psi in (0.0, 0.5, 1.0)]
    assert spread[0] < 1e-6
    assert spread[0] < min(spread[1:])


def test_evaluation_is_deterministic_and_training_draws_noise(generator):
    network = StyleGAN2Generator(16, **SMALL, mixing_probability=0.0)
    with torch.no_grad():
        for block in network.synthesis.blocks:
            block.conv.noise_strength.fill_(1.0)
    z = torch.randn(2, 6, generator=generator)
    assert not torch.equal(network(z), network(z))
    network.eval()
    assert torch.equal(network(z), network(z))
    assert not torch.equal(network(z), network(z, noise="none"))


def test_the_constant_noise_is_part_of_the_network(generator):
    """The same image again: after other draws, in another batch, from a copy and from a checkpoint."""
    network = StyleGAN2Generator(16, **SMALL)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("noise_strength"):
                parameter.fill_(1.0)
    network.double().eval()
    z = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    images = network(z)
    torch.randn(100)
    assert torch.equal(network(z), images)
    assert torch.equal(network(z, noise="const"), images)
    torch.testing.assert_close(network(z[1:2]), images[1:2])
    assert torch.equal(copy.deepcopy(network)(z), images)
    other = StyleGAN2Generator(16, **SMALL).double().eval()
    assert not torch.equal(other(z), images)
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(z), images)
    assert not torch.allclose(network(z, noise="random"), images)


def test_a_step_at_a_resolution_that_is_not_square(generator):
    """64x128 pixels with R1 and path-length regularisation: every parameter learns, R1 is the textbook's."""
    network = StyleGAN2Generator((64, 128), **SMALL)
    critic = StyleGAN2Critic((64, 128), width=64, max_width=8)
    real, z = torch.randn(4, 3, 64, 128, generator=generator), torch.randn(4, 6, generator=generator)
    with torch.no_grad():
        fake = network(z)
    assert fake.shape == real.shape
    total = critic_loss(critic, real, fake, loss=LOSSES["nonsaturating"], penalties=parse("r1:10"))
    total.backward()
    points = real.clone().requires_grad_()
    (g,) = torch.autograd.grad(critic(points).sum(), points)
    assert total.penalties["r1"].item() == pytest.approx(5 * g.square().sum((1, 2, 3)).mean().item(), rel=1e-3)

    critic.requires_grad_(False)
    loss = LOSSES["nonsaturating"].generator(critic(network(z)), None)
    lengths = path_length(network, z[:2], torch.tensor(0.0))
    assert (lengths.lengths > 0).all()
    (loss + 2 * lengths.penalty).backward()
    for net in (network, critic):
        before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
        torch.optim.Adam(net.parameters(), lr=0.002, betas=(0.0, 0.99)).step()
        for name, parameter in net.named_parameters():
            assert parameter.isfinite().all(), name
            assert not torch.equal(parameter, before[name]), name


def test_on_the_references_it_computes_the_same(generator):
    """Values and two derivatives, compiled against plain PyTorch, in float64."""
    network = StyleGAN2Generator(16, **SMALL, clamp=256.0).double().eval()
    critic = StyleGAN2Critic(16, width=64, max_width=8).double()
    z = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    results = []
    for backend in ("auto", "reference"):
        with fastgan.backend(backend):
            images = network(z)
            logits = critic(images)
            (g,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
            penalty = g.square().sum() + logits.sum()
            parameters = [*network.parameters(), *critic.parameters()]
            results.append([images, logits, g, *torch.autograd.grad(penalty, parameters, allow_unused=True)])
    for ours, theirs in zip(*results, strict=True):
        if theirs is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def test_a_critic_without_the_batch_s_deviation_takes_one_pass():
    x = torch.randn(4, 3, 16, 16)
    assert explain(StyleGAN2Critic(16, width=64, max_width=8, group_size=0), x).eligible
    assert not explain(StyleGAN2Critic(16, width=64, max_width=8), x).eligible


def test_the_recipe_is_the_paper_s():
    task, game = recipes.read("stylegan2").task, recipes.read("stylegan2").game
    assert (game.lr, game.beta1, game.beta2) == (0.002, 0.0, 0.99)
    assert (task.penalty_every, task.path_length_every, task.path_length) == (16, 4, 2.0)
    with torch.device("meta"):
        generator, critic = pair_of("stylegan2", "data.resolution=1024")
    # Karras et al. 2020, section 5: about 30 M for each, with the mapping network.
    assert sum(p.numel() for p in generator.parameters()) == pytest.approx(30.4e6, rel=0.02)
    assert sum(p.numel() for p in critic.parameters()) == pytest.approx(29e6, rel=0.02)


def test_the_critics_head_judges_its_penultimate_layer(generator):
    critic = StyleGAN2Critic(16, width=64, max_width=8, outputs=3).eval()
    assert is_headed(critic)
    images, seen = torch.randn(6, 3, 16, 16), []
    critic.fc.register_forward_hook(lambda module, inputs, output: seen.append(output))
    features = critic.penultimate(images)
    assert features.shape == (6, critic.num_features)
    assert torch.equal(features, seen[0])
    assert torch.equal(critic.head(features), critic(images))
    names = [name.split(".")[0] for name in critic.state_dict()]  # as checkpoints have them
    assert list(dict.fromkeys(names)) == ["from_rgb", "blocks", "conv", "fc", "out"]
