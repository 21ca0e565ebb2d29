"""Settings of NVIDIA's networks besides their tensors are carried over or refused, each of them."""

import importlib
import pickle
import sys

import pytest
import torch

from fastgan.integrations import stylegan
from fastgan.integrations.stylegan import nvidia_settings

from .test_names import EXACT, draw, exact, fresh

SETTINGS = {"conv_clamp": 0.7}
# The sizes of what they hold, and the modules' own; their shapes are those of tensors.
NOT_ASKED = {"training", "num_ws", "num_layers", "in_channels", "bias"}


class Nvidia:
    @staticmethod
    def networks(**critic):
        code = importlib.import_module("training.networks_stylegan2")
        arguments = {"img_channels": 3, "channel_base": 64, "channel_max": 6, **SETTINGS}
        return code.Generator(5, 7, 16, num_layers=2, **arguments), code.Discriminator(16, **arguments, **critic)


def ours_of(network):
    """Our network with the weights and the settings of one of theirs, in float64."""
    build = stylegan.build_generator if hasattr(network, "mapping") else stylegan.build_critic
    return exact(build(stylegan.from_nvidia(network.state_dict()), **nvidia_settings(network)))


@pytest.mark.parametrize("group_size", [4, 2, 3, None])
def test_settings_are_carried_over(group_size, codebase, generator):
    codebase("nvidia")
    theirs, their_critic = fresh(Nvidia, mbstd_group_size=group_size)
    theirs.mapping.w_avg_beta = 0.9
    assert nvidia_settings(theirs) == {"clamp": 0.7, "w_avg_decay": 0.9}
    assert nvidia_settings(their_critic) == {"clamp": 0.7, "group_size": group_size}
    ours, critic = ours_of(theirs), ours_of(their_critic)
    assert ours.mapping.w_avg_decay == 0.9
    z = draw(generator, 12, 5)
    images = theirs(z, 0.7)
    torch.testing.assert_close(ours(z, 0.7), images, **EXACT)
    torch.testing.assert_close(critic(images), their_critic(images), **EXACT)


def test_settings_of_a_file_without_arguments(codebase, monkeypatch, tmp_path, generator):
    """As stylegan3 writes them: 256 is a default, and in no argument."""
    codebase("nvidia")
    monkeypatch.chdir(tmp_path)
    networks = fresh(Nvidia, mbstd_group_size=2)
    z = draw(generator, 4, 5)
    images = networks[0](z)
    logits = networks[1](images)
    persistent = importlib.import_module("torch_utils.persistence").persistent
    data = pickle.dumps([persistent(network) for network in networks])
    for name in [name for name in sys.modules if name.split(".")[0] in ("training", "torch_utils", "dnnlib")]:
        del sys.modules[name]
    (tmp_path / "network.pkl").write_bytes(data)
    record, critic_record = stylegan.read_pickle(tmp_path / "network.pkl")
    assert record.arguments == {}
    assert nvidia_settings(record)["clamp"] == 0.7
    ours = exact(stylegan.build_generator(stylegan.from_nvidia(record.state_dict), **nvidia_settings(record)))
    state = stylegan.from_nvidia(critic_record.state_dict)
    critic = exact(stylegan.build_critic(state, **nvidia_settings(critic_record)))
    torch.testing.assert_close(ours(z), images, **EXACT)
    torch.testing.assert_close(critic(images), logits, **EXACT)
    without = exact(stylegan.build_generator(stylegan.from_nvidia(record.state_dict)))
    assert not torch.allclose(without(z), images, rtol=1e-2)


def others(value):
    """Other values that an attribute might have."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, str):
        return ["relu", "linear", "orig"]
    return [value + 1, value * 2, None] if isinstance(value, (int, float)) else [0.5]


def scalars(network):
    """Every attribute of every module that holds no tensor, module or list."""
    for path, module in network.named_modules():
        for name, value in vars(module).items():
            plain = value is None or isinstance(value, (bool, int, float, str))
            if plain and not name.startswith("_") and name not in NOT_ASKED:
                yield path, module, name, value


@pytest.mark.parametrize("which", [0, 1], ids=["generator", "critic"])
def test_any_attribute_with_another_value_is_carried_over_or_refused(which, codebase, generator):
    codebase("nvidia")
    theirs = fresh(Nvidia)[which]
    x = draw(generator, 4, 5) if which == 0 else draw(generator, 4, 3, 16, 16)
    refused, seen = set(), set()
    for path, module, name, value in scalars(theirs):
        seen.add(name)
        for other in others(value):
            setattr(module, name, other)
            try:
                ours, message = ours_of(theirs), None
            except (TypeError, ValueError) as error:
                ours, message = None, str(error)
            if ours is None:
                assert f"{name} is" in message or name in ("w_avg_beta", "group_size"), (path, name, other, message)
                refused.add(name)
            else:
                torch.testing.assert_close(ours(x), theirs(x), **EXACT)
            setattr(module, name, value)
    asked = {"activation", "act_gain", "weight_gain", "conv_clamp", "up", "padding"}
    asked |= {"bias_gain", "architecture", "use_noise"} if which == 0 else {"down", "num_channels", "architecture"}
    assert asked <= refused
    assert refused <= seen


def test_what_is_refused(codebase):
    codebase("nvidia")
    theirs, critic = Nvidia.networks()
    theirs.synthesis.b8.conv1.conv_clamp = 256
    with pytest.raises(ValueError, match=r"conv_clamp is .*256 in synthesis\.b8\.conv1.*, expected one bound for all"):
        nvidia_settings(theirs)
    critic.b8.skip.conv_clamp = 256
    with pytest.raises(ValueError, match=r"b8\.skip\.conv_clamp is 256, expected None"):
        nvidia_settings(critic)
    del critic.b8.skip.conv_clamp
    with pytest.raises(ValueError, match=r"b8\.skip, a Conv2dLayer, has no attribute conv_clamp"):
        nvidia_settings(critic)
    critic.b8.skip = torch.nn.Conv2d(1, 1, 1)
    with pytest.raises(ValueError, match=r"b8\.skip is a Conv2d, which our networks have not"):
        nvidia_settings(critic)
    with pytest.raises(TypeError, match=r"network is OrderedDict, expected a Network or an nn\.Module"):
        nvidia_settings(theirs.state_dict())
    state = stylegan.from_nvidia(Nvidia.networks()[1].state_dict())
    with pytest.raises(ValueError, match="build_critic: group_size is 0"):
        stylegan.build_critic(state, group_size=0)
    state = stylegan.from_nvidia(theirs.state_dict())
    with pytest.raises(ValueError, match="build_generator: w_avg_decay is 2"):
        stylegan.build_generator(state, w_avg_decay=2)
