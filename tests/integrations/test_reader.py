"""Files like the published ones are read without their code."""

import argparse
import collections
import importlib
import io
import pickle
import sys

import numpy as np
import pytest
import torch

from fastgan.errors import UserError
from fastgan.integrations import stylegan
from fastgan.integrations.stylegan import Network, read_pickle

from .conftest import is_codebase


def forget():
    """The reader has none of the code that wrote the file."""
    for name in [name for name in sys.modules if is_codebase(name)]:
        del sys.modules[name]


@pytest.fixture
def snapshot(codebase, monkeypatch, tmp_path):
    """A function that writes NVIDIA's pickle of two networks, and forgets their code."""
    codebase("nvidia")
    monkeypatch.chdir(tmp_path)

    def write(protocol):
        networks = importlib.import_module("training.networks_stylegan2")
        persistent = importlib.import_module("torch_utils.persistence").persistent
        easy = importlib.import_module("dnnlib").EasyDict
        generator = persistent(networks.Generator(5, 7, 16, channel_max=6), z_dim=5, conv_clamp=256)
        generator.mapping.w_avg_beta = np.float64(0.995)
        generator.synthesis.b8.register_buffer("scratch", torch.zeros(2), persistent=False)
        generator.mapping.lists = [np.arange(6.0).reshape(2, 3).T, np.arange(3), np.float32(1.5), {1, 2}, (None, True)]
        critic = persistent(networks.Discriminator(16, channel_max=6))
        z = torch.randn(2, 5)
        data = {
            "training_set_kwargs": easy(path="faces.zip", resolution=16),
            "G": None, "D": critic, "G_ema": generator, "augment_pipe": None,
        }  # fmt: skip
        file = tmp_path / "network.pkl"
        file.write_bytes(pickle.dumps(data, protocol))
        written = generator.state_dict(), critic.state_dict(), z, generator(z).detach()
        forget()
        return file, *written

    return write


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_nvidia_pickles(protocol, snapshot, tmp_path, seed):
    torch.manual_seed(seed)
    file, generator_state, critic_state, z, images = snapshot(protocol)
    data = read_pickle(file)
    assert not [name for name in sys.modules if is_codebase(name)]
    assert not (tmp_path / "executed").exists()
    assert data["training_set_kwargs"] == {"path": "faces.zip", "resolution": 16}
    assert type(data["training_set_kwargs"]) is dict
    assert data["G"] is None
    for record, state in ((data["G_ema"], generator_state), (data["D"], critic_state)):
        assert isinstance(record, Network)
        assert record.state_dict.keys() == state.keys()
        for name, value in state.items():
            assert type(record.state_dict[name]) is torch.Tensor
            assert torch.equal(record.state_dict[name], value)
    assert data["G_ema"].class_name == "Generator"
    assert data["G_ema"].arguments == {"z_dim": 5, "conv_clamp": 256}
    mapping = data["G_ema"].attributes
    assert mapping["training"] is True
    ours = stylegan.build_generator(stylegan.from_nvidia(data["G_ema"].state_dict))
    torch.testing.assert_close(ours(z), images, rtol=1e-4, atol=1e-4)
    stylegan.build_critic(stylegan.from_nvidia(data["D"].state_dict))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_values(protocol, tmp_path):
    shared = torch.arange(12.0)
    array = np.arange(6, dtype=">i4").reshape(2, 3)
    data = {
        "tensors": [
            shared[2:8].view(2, 3).t(), torch.ones(2, 0), torch.tensor(3), torch.tensor([True]),
            torch.ones(2, dtype=torch.bfloat16), torch.nn.Parameter(torch.arange(3.0)), shared[::3],
        ],
        "arrays": [array, np.asfortranarray(array), array, np.ones(3, np.float16), np.zeros((0, 2)), np.array(1.5)],
        "scalars": [np.float64(1 / 3), np.int64(-5), np.bool_(True), np.uint8(200)],
        "containers": (collections.OrderedDict(b=1, a=[2]), {"x"}, {1: (2, 3)}, b"\xff\x00", "ü", 1 << 70, None, 1.5),
    }  # fmt: skip
    file = tmp_path / "values.pkl"
    file.write_bytes(pickle.dumps(data, protocol))
    read = read_pickle(file)
    for ours, theirs in zip(read["tensors"], data["tensors"], strict=True):
        assert type(ours) is torch.Tensor
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(read["arrays"], data["arrays"], strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    assert read["scalars"] == data["scalars"]
    assert [type(value) for value in read["scalars"]] == [float, int, bool, int]
    assert read["containers"] == data["containers"]
    assert type(read["containers"][0]) is dict


@pytest.mark.parametrize("zipped", [True, False])
def test_rosinality_files(zipped, codebase, tmp_path, seed):
    codebase("rosinality")
    torch.manual_seed(seed)
    generator = importlib.import_module("model").Generator(8, 6, 2, {4: 4, 8: 4})
    checkpoint = {
        "g_ema": generator.state_dict(), "latent_avg": torch.randn(6), "args": argparse.Namespace(size=8, r1=10.0),
        "g_optim": torch.optim.Adam(generator.parameters()).state_dict(),
    }  # fmt: skip
    z = torch.randn(2, 6)
    images = generator(z).detach()
    file = tmp_path / "stylegan2.pt"
    torch.save(checkpoint, file, _use_new_zipfile_serialization=zipped)
    forget()
    read = read_pickle(file)
    assert read["args"] == {"size": 8, "r1": 10.0}
    ours = stylegan.build_generator(stylegan.from_rosinality(read["g_ema"], read["latent_avg"]))
    torch.testing.assert_close(ours(z), images, rtol=1e-4, atol=1e-4)
    assert torch.equal(ours.mapping.w_avg, checkpoint["latent_avg"])


def test_files_that_are_none(tmp_path):
    with pytest.raises(UserError, match=r"missing\.pkl' cannot be read: No such file"):
        read_pickle(tmp_path / "missing.pkl")
    file = tmp_path / "file"
    whole = pickle.dumps({"a": torch.ones(1000), "b": [1] * 300}, 4)
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(1000)}, buffer)
    zipped = buffer.getvalue()
    pieces = [whole[:n] for n in (0, 1, 5, 100, len(whole) - 1)] + [zipped[:n] for n in (4, 100, len(zipped) // 2)]
    for data in [
        *pieces,
        b"<html>not found</html>",
        bytes(range(256)),
        b"\x80\x04\x8a\xff.",
        b"\x80\x04h\x05.",
        b"\x80\xff.",
    ]:
        file.write_bytes(data)
        with pytest.raises(UserError, match=r"is no whole pickle|asks for"):
            read_pickle(file)
