"""The features of a critic's penultimate layer: of every kind of critic, and from the command line."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression

from fastgan import recipes
from fastgan.data import digit_labels, digits
from fastgan.errors import UserError
from fastgan.metrics import frechet_distance
from fastgan.models import ResNetCritic
from fastgan.tasks.features import critic_features
from tests.command_line import assert_refused, call
from tests.train.steps import begun, networks, recipe_of

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = {"name": "stylegan2-small", "resolution": 8, "batch_size": 4}
DCGAN = {"name": "dcgan", "image": "digits", "resolution": 8, "channels": 1}
RUNS = {
    "dcgan": {},
    "resnet": {"name": "digits-resnet"},
    "batch-norm": DCGAN,
    "stylegan2": SMALL,
    "projection": {"name": "digits-resnet", "conditional": "projection"},
    "auxiliary-classifier": {"conditional": "auxiliary-classifier"},
    "semi-supervised": {"conditional": "semi-supervised"},
    "features": {"name": "digits-resnet", "loss": "mmd", "penalty": ""},
    "logit-and-features": {"loss": "feature_matching:hinge"},
    "noise": {"instance_noise": 0.5},
    "virtual-batch": {**DCGAN, "critic_norm": "virtual-batch"},
    "split-batch": {**DCGAN, "critic_norm": "split-batch"},
    "spectral-norm": {"loss": "hinge", "spectral_norm": True},
}
HEADS = {"stylegan2": "out", "projection": "critic.head", "auxiliary-classifier": "critic.head"} | {
    "noise": "1.head",
    "logit-and-features": "critic.head",
    "virtual-batch": "critic.head",
}


def trained(**settings):
    run = begun(recipe_of(**{"name": "digits-dcgan", **settings}))
    for _ in range(2):
        next(run)
    return run


@pytest.mark.parametrize("kind", RUNS)
def test_features_are_what_the_head_is_given(kind):
    """The input of the head, as a forward hook on the run's critic sees it."""
    run = trained(**RUNS[kind])
    images = run.sources["image"].batch(torch.arange(12))
    _, critic = networks(run)
    found = critic_features(run.task, images)
    assert critic.training

    seen = []
    critic.eval().get_submodule(HEADS.get(kind, "head")).register_forward_pre_hook(lambda module, x: seen.append(x[0]))
    with torch.no_grad():
        critic(images, *([digit_labels()[:12]] if kind == "projection" else []))
    assert torch.equal(found, seen[-1])  # a reference batch comes first
    assert (len(found), found.dtype, found.requires_grad) == (12, torch.float32, False)


def test_the_features_of_an_autoencoder_are_what_its_code_is_made_of():
    run, images = trained(loss="ebgan"), digits().pixels[:5]
    encoder = networks(run)[1].eval().autoencoder[0]
    with torch.no_grad():
        torch.testing.assert_close(encoder.head(critic_features(run.task, images)), encoder(images))


def test_batches_do_not_matter_and_nothing_changes(monkeypatch):
    run, images = trained(), digits().pixels[:40]
    before = torch.get_rng_state()
    tensors = {name: value.clone() for name, value in run.task.state_dict().items()}
    whole = critic_features(run.task, images)
    monkeypatch.setattr("fastgan.tasks.sampling.BATCH", 7)
    torch.testing.assert_close(critic_features(run.task, images), whole, rtol=1e-4, atol=1e-5)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, tensors[name]) for name, value in run.task.state_dict().items())


def test_features_tell_digits_and_samples_apart():
    """A linear probe: a logistic regression on the features of half of the digits names the others."""
    run = begun(recipe_of("digits-dcgan", steps=40, batch_size=64))
    for _ in run:
        pass
    images, labels = digits().pixels, digit_labels()
    features = critic_features(run.task, images)
    probe = LogisticRegression(max_iter=300).fit(features[::2].numpy(), labels[::2].numpy())
    assert probe.score(features[1::2].numpy(), labels[1::2].numpy()) > 0.6
    samples = critic_features(run.task, run.task.sample(899))
    assert frechet_distance(features[::2], samples) > 2 * frechet_distance(features[::2], features[1::2])


def test_critics_and_images_without_features(monkeypatch):
    with pytest.raises(UserError, match=r"CHECKPOINT holds a critic of packs of 2, .* expected a run without task.pac"):
        critic_features(trained(pack=2).task, digits().pixels)
    run = trained(name="digits-resnet")
    for images, error, message in (
        (torch.zeros(2, 3, 8, 8), ValueError, r"images has shape \[2, 3, 8, 8\], expected \[N, 1, 8, 8\]"),
        (torch.zeros(2, 1, 8, 8).byte(), TypeError, "images is torch.uint8, expected a floating-point tensor"),
        (torch.zeros(0, 1, 8, 8), ValueError, r"images has shape \[0, 1, 8, 8\], expected at least one image"),
    ):
        with pytest.raises(error, match=f"features: {message}"):
            critic_features(run.task, images)
    monkeypatch.delattr(ResNetCritic, "penultimate")
    monkeypatch.delattr(ResNetCritic.__base__, "penultimate")
    with pytest.raises(UserError, match="CHECKPOINT holds a critic that has no penultimate layer"):
        critic_features(run.task, digits().pixels)


def test_features_from_the_command_line(tmp_path):
    out = tmp_path / "features.safetensors"
    run = recipes.start(recipe_of("digits-dcgan", steps=1), tmp_path / "run", quiet=True).folder
    assert call("features", run, "--out", out)[:2] == (0, f"wrote 1797 images' 128 features to {out}\n")
    found = load_file(out)
    assert torch.equal(found["features"], critic_features(recipes.load(run).task, digits().pixels))
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
