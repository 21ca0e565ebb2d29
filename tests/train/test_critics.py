"""The critic of a run: restored as it was, and the features of its penultimate layer."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression

from fastgan.data import digit_labels, digits
from fastgan.errors import UserError
from fastgan.metrics import frechet_distance
from fastgan.models import ResNetCritic
from fastgan.train import load_critic, load_generator, train, training_images
from fastgan.train.checkpoint import find_checkpoint, read_checkpoint
from fastgan.train.state import TrainState
from tests.command_line import assert_refused, call

SMALL = {"preset": "stylegan2-small", "data": "textures", "resolution": "8", "batch_size": 4}
RUNS = {
    "dcgan": {},
    "resnet": {"preset": "digits-resnet"},
    "batch-norm": {"preset": "dcgan", "resolution": "8", "channels": 1},
    "stylegan2": SMALL,
    "projection": {"preset": "digits-resnet", "conditional": "projection"},
    "auxiliary-classifier": {"conditional": "auxiliary-classifier"},
    "semi-supervised": {"conditional": "semi-supervised"},
    "features": {"preset": "digits-resnet", "loss": "mmd", "penalty": ""},
    "logit-and-features": {"loss": "feature_matching:hinge"},
    "noise": {"instance_noise": 0.5},
    "virtual-batch": {"preset": "dcgan", "resolution": "8", "channels": 1, "critic_norm": "virtual-batch"},
    "split-batch": {"preset": "dcgan", "resolution": "8", "channels": 1, "critic_norm": "split-batch"},
    "spectral-norm": {"loss": "hinge", "spectral_norm": True},
}
HEADS = {"stylegan2": "out", "projection": "critic.head", "auxiliary-classifier": "critic.head"} | {
    "noise": "1.head",
    "logit-and-features": "critic.head",
    "virtual-batch": "critic.head",
}


def state_of(config):
    """The state of a run as its newest checkpoint has it, by the way that resuming goes."""
    made = TrainState(config, training_images(config), torch.device("cpu"))
    with made.layer_randomness():
        made.load_tensors(read_checkpoint(find_checkpoint(config.out, "--out"))[0])
    return made


@pytest.mark.parametrize("kind", RUNS)
def test_features_are_what_the_head_is_given(kind, tiny):
    """The input of the head, as a forward hook on the resumed run's critic sees it."""
    config = tiny(**{"steps": 2, **RUNS[kind]})
    train(config, quiet=True)
    critic = load_critic(config.out)
    images = training_images(config).batch(torch.arange(12))

    expected = state_of(config).critic.eval()
    seen = []
    expected.get_submodule(HEADS.get(kind, "head")).register_forward_pre_hook(lambda module, x: seen.append(x[0]))
    with torch.no_grad():
        expected(images, *([digit_labels()[:12]] if kind == "projection" else []))
    found = critic.features(images)
    assert torch.equal(found, seen[-1])  # a reference batch comes first
    assert (found.shape, found.dtype, found.requires_grad) == ((12, critic.num_features), torch.float32, False)
    for name, value in expected.state_dict().items():
        assert torch.equal(critic.network.state_dict()[name], value), name


def test_the_features_of_an_autoencoder_are_what_its_code_is_made_of(tiny):
    config = tiny(steps=2, loss="ebgan")
    train(config, quiet=True)
    critic, images = load_critic(config.out), digits().pixels[:5]
    encoder = critic.network.autoencoder[0]
    with torch.no_grad():
        torch.testing.assert_close(encoder.head(critic.features(images)), encoder(images))


def test_batches_do_not_matter_and_nothing_changes(tiny, monkeypatch):
    config = tiny(steps=2)
    train(config, quiet=True)
    before = torch.get_rng_state()
    critic, images = load_critic(config.out), digits().pixels[:40]
    tensors = {name: value.clone() for name, value in critic.network.state_dict().items()}
    whole = critic.features(images)
    monkeypatch.setattr("fastgan.train.critics.BATCH", 7)
    torch.testing.assert_close(critic.features(images), whole, rtol=1e-4, atol=1e-5)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, tensors[name]) for name, value in critic.network.state_dict().items())
    assert not critic.network.training


def test_features_tell_digits_and_samples_apart(tiny):
    """A linear probe: a logistic regression on the features of half of the digits names the others."""
    config = tiny(steps=40, batch_size=64)
    train(config, quiet=True)
    critic, images, labels = load_critic(config.out), digits().pixels, digit_labels()
    features = critic.features(images)
    probe = LogisticRegression(max_iter=300).fit(features[::2].numpy(), labels[::2].numpy())
    assert probe.score(features[1::2].numpy(), labels[1::2].numpy()) > 0.6
    samples = critic.features(load_generator(config.out).sample(899))
    assert frechet_distance(features[::2], samples) > 2 * frechet_distance(features[::2], features[1::2])


def test_critics_and_images_without_features(tiny, monkeypatch):
    train(tiny("packs", steps=1, pack=2), quiet=True)
    with pytest.raises(UserError, match=r"CHECKPOINT holds a critic of packs of 2, .* expected a run without --pack"):
        load_critic(tiny("packs").out).features(digits().pixels)
    train(tiny("run", steps=1, preset="digits-resnet"), quiet=True)
    critic = load_critic(tiny("run").out)
    for images, error, message in (
        (torch.zeros(2, 3, 8, 8), ValueError, r"images has shape \[2, 3, 8, 8\], expected \[N, 1, 8, 8\]"),
        (torch.zeros(2, 1, 8, 8).byte(), TypeError, "images is torch.uint8, expected a floating-point tensor"),
        (torch.zeros(0, 1, 8, 8), ValueError, r"images has shape \[0, 1, 8, 8\], expected at least one image"),
    ):
        with pytest.raises(error, match=f"features: {message}"):
            critic.features(images)
    with pytest.raises(UserError, match="which does not exist; expected a run's folder or a checkpoint"):
        load_critic(tiny("nowhere").out)
    monkeypatch.delattr(ResNetCritic, "penultimate")
    monkeypatch.delattr(ResNetCritic.__base__, "penultimate")
    with pytest.raises(UserError, match="the preset digits-resnet, whose critic has no penultimate layer"):
        critic.features(digits().pixels)


def test_features_from_the_command_line(tiny, tmp_path):
    run, out = tiny().out, tmp_path / "features.safetensors"
    train(tiny(steps=1), quiet=True)
    assert call("features", run, "--out", out)[:2] == (0, f"wrote 1797 images' 128 features to {out}\n")
    found = load_file(out)
    assert torch.equal(found["features"], load_critic(run).features(digits().pixels))
    assert torch.equal(found["labels"], digit_labels())
    assert torch.equal(found["indices"], torch.arange(1797))
    with safe_open(out, framework="pt") as file:
        about = json.loads(file.metadata()["fastgan"])
    assert (about["step"], about["data"], about["classes"]) == (1, "digits", list("0123456789"))

    assert call("features", run, "--data", "digits", "--n", 5, "--seed", 1, "--out", out)[0] == 0
    few = load_file(out)
    torch.testing.assert_close(few["features"], found["features"][few["indices"]], rtol=1e-4, atol=1e-5)
    assert torch.equal(few["labels"], digit_labels()[few["indices"]])
    assert len(set(few["indices"].tolist())) == 5
    assert_refused(
        call("features", run, "--n", 1798), "--n is 1798, expected 1 to 1797, the number of images in digits"
    )
    assert_refused(
        call("features", run, "--out", tmp_path / "no" / "file"),
        f"--out is '{tmp_path / 'no' / 'file'}', which cannot be written: No such file or directory",
    )
