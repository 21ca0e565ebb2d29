"""State dicts that are not what they should be are refused, by the names and shapes that tell so."""

import pytest
import torch

from fastgan.integrations import stylegan
from fastgan.integrations.stylegan import our_state
from fastgan.models import StyleGAN2Critic, StyleGAN2Generator


@pytest.fixture(scope="module")
def generator_state():
    return StyleGAN2Generator(16, 3, 6, 6, 2, width=64, max_width=6).state_dict()


@pytest.fixture(scope="module")
def critic_state():
    return StyleGAN2Critic(16, 3, width=64, max_width=6).state_dict()


def changed(state, **changes):
    return {**state, **changes}


def test_conditional_networks(generator_state, critic_state):
    theirs = stylegan.to_nvidia(generator_state)
    with pytest.raises(
        ValueError, match=r"the network is conditional, it has mapping\.embed\.weight; expected one without"
    ):
        stylegan.from_nvidia({**theirs, "mapping.embed.weight": torch.zeros(1)})
    theirs = stylegan.to_nvidia(critic_state)
    with pytest.raises(ValueError, match=r"conditional, it has mapping\.fc0\.weight"):
        stylegan.from_nvidia({**theirs, "mapping.fc0.weight": torch.zeros(1)})


def test_other_architectures(generator_state, critic_state):
    theirs = stylegan.to_nvidia(generator_state)
    del theirs["synthesis.b4.torgb.weight"]
    theirs["synthesis.b8.skip.weight"] = torch.zeros(1)
    with pytest.raises(
        ValueError,
        match=r"NVIDIA's generator: the state dict has no synthesis\.b4\.torgb\.weight and has synthesis\.b8\.skip",
    ):
        stylegan.from_nvidia(theirs)
    with pytest.raises(ValueError, match=r"has the names synthesis\.L0\.weight; expected synthesis\.b4\.const of a"):
        stylegan.from_nvidia({"synthesis.L0.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"expected input\.input of a generator"):
        stylegan.from_rosinality(theirs)
    theirs = stylegan.to_nvidia(critic_state)
    theirs["b4.conv.weight"] = torch.zeros(6, 8, 3, 3)
    with pytest.raises(ValueError, match=r"conv\.weight has 8 input channels, expected 6 and at most one statistic"):
        stylegan.from_nvidia(theirs)
    with pytest.raises(ValueError, match="latent_avg is given with a discriminator's"):
        stylegan.from_rosinality(stylegan.to_rosinality(critic_state), torch.zeros(6))


@pytest.mark.parametrize("move", [stylegan.to_nvidia, stylegan.to_rosinality])
def test_other_filters(generator_state, move):
    back = stylegan.from_nvidia if move is stylegan.to_nvidia else stylegan.from_rosinality
    theirs = move(generator_state)
    name = next(name for name in theirs if name.endswith(("resample_filter", "kernel")))
    with pytest.raises(
        ValueError, match=r"has shape \[4, 4\] and values .*, expected the filter \[1, 3, 3, 1\] in both"
    ):
        back({**theirs, name: theirs[name] * 2})
    with pytest.raises(ValueError, match=r"has shape \[12\]"):
        back({**theirs, name: torch.ones(12)})
    with pytest.raises(ValueError, match=r"our network: synthesis\.resample_filter has shape \[2, 2\]"):
        move(changed(generator_state, **{"synthesis.resample_filter": torch.ones(2, 2)}))


def test_dimensions_that_should_be_one(generator_state):
    theirs = stylegan.to_rosinality(generator_state)
    with pytest.raises(
        ValueError, match=r"input\.input has shape \[2, 6, 4, 4\], expected 1 in the first 1 and the last 0"
    ):
        stylegan.from_rosinality({**theirs, "input.input": torch.zeros(2, 6, 4, 4)})


def test_what_their_networks_cannot_have():
    wide = StyleGAN2Generator((16, 32), 3, 6, 6, 2, width=64, max_width=6).state_dict()
    for move in (stylegan.to_nvidia, stylegan.to_rosinality):
        with pytest.raises(ValueError, match=rf"{move.__name__}: the images are 16x32, expected square ones"):
            move(wide)
        with pytest.raises(ValueError, match="the critic has no minibatch standard deviation"):
            move(StyleGAN2Critic(16, 3, width=64, max_width=6, group_size=0).state_dict())
    with pytest.raises(ValueError, match="z has 5 numbers and w 6, expected as many"):
        stylegan.to_rosinality(StyleGAN2Generator(16, 3, 5, 6, 2, width=64, max_width=6).state_dict())
    with pytest.raises(ValueError, match="the images have 1 channels, expected 3"):
        stylegan.to_rosinality(StyleGAN2Critic(16, 1, width=64, max_width=6).state_dict())
    assert stylegan.build_generator(wide).synthesis.const.shape == (6, 4, 8)


def test_what_is_no_state_dict(generator_state, critic_state):
    for function in (stylegan.from_nvidia, stylegan.to_nvidia, stylegan.from_rosinality, stylegan.build_critic):
        with pytest.raises(TypeError, match=r"state_dict is dict with 'g_ema': dict, expected a state dict"):
            function({"g_ema": {}})
        with pytest.raises(TypeError, match="state_dict is int, expected"):
            function(3)
    for function in (stylegan.to_nvidia, stylegan.to_rosinality, stylegan.build_generator):
        with pytest.raises(ValueError, match=r"state_dict has the names a; expected those of StyleGAN2Generator"):
            function({"a": torch.zeros(1)})
    with pytest.raises(ValueError, match="build_critic: state_dict is a generator's"):
        stylegan.build_critic(generator_state)
    with pytest.raises(ValueError, match="build_generator: state_dict is a critic's"):
        stylegan.build_generator(critic_state)
    with pytest.raises(ValueError, match=r"state_dict has no mapping\.layers\.0\.weight"):
        stylegan.build_generator({n: v for n, v in generator_state.items() if not n.startswith("mapping.layers")})
    with pytest.raises(ValueError, match="state_dict does not fit StyleGAN2Generator"):
        stylegan.build_generator(changed(generator_state, more=torch.zeros(1)))
    with pytest.raises(ValueError, match=r"fc\.weight has 80 inputs, expected 96: 6 channels of 4x4"):
        stylegan.build_critic(changed(critic_state, **{"fc.weight": torch.zeros(6, 80)}))


@pytest.mark.parametrize(
    "arguments",
    [
        {"resolution": 64, "width": 512, "max_width": 32},
        {"resolution": 8, "width": 100, "max_width": 17},
        {"resolution": 32, "width": 40, "max_width": 512},
        {"resolution": 32, "width": 30, "max_width": 4, "channels": 1},
        {"resolution": 16, "width": 1000, "max_width": 5},
    ],
)
def test_arguments_from_shapes(arguments):
    sizes = {"z_dim": 3, "w_dim": 5, "mapping_layers": 2}
    for network, infer, more in (
        (StyleGAN2Generator, our_state.generator_arguments, sizes),
        (StyleGAN2Critic, our_state.critic_arguments, {"group_size": 0}),
    ):
        state = network(**arguments, **more).state_dict()
        inferred = infer(state)
        assert {n: inferred[n] for n in more} == more
        again = network(**inferred)
        again.load_state_dict(state)
        assert inferred["resolution"] == arguments["resolution"]


def test_widths_that_no_arguments_give(generator_state):
    with pytest.raises(ValueError, match=r"the numbers of channels are 6 at 4, 5 at 8, 4 at 16; expected min\(width"):
        stylegan.build_generator(
            changed(generator_state, **{"synthesis.blocks.1.conv.weight": torch.zeros(5, 5, 3, 3)})
        )
