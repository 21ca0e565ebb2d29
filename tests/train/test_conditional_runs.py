"""Runs with classes: resumed bit for bit, sampled by class, and refused where classes make no sense."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from fastgan.errors import UserError
from fastgan.models import AuxiliaryClassifierCritic, ProjectionCritic
from fastgan.train import TrainConfig, load_generator, pictures, resume, train
from fastgan.train.checkpoint import read_checkpoint, write_checkpoint
from fastgan.train.conditioning import CONDITIONINGS, parse
from fastgan.train.config import CHANGEABLE
from fastgan.train.grid import image_grid
from fastgan.train.networks import build_critic
from tests.rotation import in_turn


@pytest.fixture
def pets(tmp_path):
    """24 noisy pictures: 16 cats, which are dark, 8 dogs, which are bright."""
    random = np.random.default_rng(0)
    for name, count, level in (("cats", 16, 40), ("dogs", 8, 215)):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for index in range(count):
            pixels = np.clip(level + random.normal(0, 15, (8, 8)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{index}.png")
    return str(tmp_path / "pets")


PROJECTION = {"conditional": "projection"}
RUNS = {
    "projection, one pass": {**PROJECTION, "preset": "digits-resnet", "penalty": "r1:1,r2:1"},
    "projection, spectral norm": {**PROJECTION, "loss": "hinge", "spectral_norm": True},
    "projection, epochs apart": {**PROJECTION, "preset": "digits-resnet", "optimizer": "variance-reduced"},
    "projection, noise": {**PROJECTION, "instance_noise": 0.1, "instance_noise_steps": 9, "orthogonal": 1e-4},
    "auxiliary classifier, unrolled": {"conditional": "auxiliary-classifier", "unroll": 1},
    "auxiliary classifier": {"conditional": "auxiliary-classifier:0.5"},
    "auxiliary classifier, penalties": {
        "conditional": "auxiliary-classifier", "penalty": "r1:1,wgan-gp:1:one-sided", "optimizer": "consensus"
    },
    "semi-supervised": {"conditional": "semi-supervised"},
    "semi-supervised, penalties": {"conditional": "semi-supervised", "preset": "digits-resnet", "penalty": "r1:1,r2:1"},
    "noise and unrolling": {**PROJECTION, "instance_noise": 0.3, "instance_noise_steps": 9, "unroll": 1},
}  # fmt: skip


@pytest.mark.parametrize("changes", in_turn(list(RUNS.values()), "resumed with classes", run=3), ids=RUNS)
def test_a_resumed_run_goes_on_bit_for_bit(changes, tiny, pets):
    chosen = {"data": pets, "batch_size": 8, **changes}
    whole = train(tiny("whole", steps=4, **chosen), quiet=True)
    first = train(tiny("parts", steps=2, **chosen), quiet=True)
    torch.rand(3)
    parts = resume(first.run, quiet=True, steps=4)
    (expected, header), (found, _) = (read_checkpoint(run.checkpoint) for run in (whole, parts))
    assert header["classes"] == {"cats": 16, "dogs": 8}
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert ("random.labels" in expected) == (changes["conditional"] != "semi-supervised")
    assert load_generator(parts.run).sample(3).isfinite().all()


@pytest.mark.parametrize("conditional", ["projection", "auxiliary-classifier"])
def test_samples_are_of_the_class_that_is_asked_for(conditional, tiny, pets):
    """With ten times the preset's learning rate, 30 steps tell dark from bright."""
    chosen = {"data": pets, "batch_size": 8, "preset": "digits-resnet", "penalty": "none", "ema": 0.5, "steps": 30}
    run = train(tiny(conditional=conditional, lr=4e-3, lr_critic=4e-3, log_every=30, **chosen), quiet=True).run
    generator = load_generator(run)
    cats, dogs = (generator.sample(32, labels=label).mean().item() for label in generator.labels_of(["cats", "dogs"]))
    assert cats < dogs - 0.5


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The run of a generator that is told digits."""
    out = tmp_path_factory.mktemp("conditional") / "run"
    settings = {"steps": 2, "batch_size": 16, "device": "cpu", "log_every": 1, "seed": 3, "conditional": "projection"}
    return train(TrainConfig.for_preset("digits-dcgan", out=out, **settings), quiet=True).run


def test_samples_by_label(told):
    generator = load_generator(told)
    assert list(generator.classes) == list("0123456789")
    assert sum(generator.classes.values()) == 1797
    labels = torch.arange(300) % 10
    images = generator.sample(300, seed=4, labels=labels)
    z = torch.randn(300, 64, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(images, generator.network(z, labels), rtol=1e-5, atol=1e-6)
    assert torch.equal(generator.sample(5, seed=4, labels=7), generator.sample(5, seed=4, labels=torch.tensor([7] * 5)))
    assert torch.equal(generator.sample(5, seed=4), generator.sample(5, seed=4, labels=generator.labels(5, seed=4)))
    assert not torch.equal(generator.labels(50, seed=4), generator.labels(50, seed=5))
    assert generator.labels(3000).bincount(minlength=10).min() > 200


def test_the_picture_has_a_column_for_each_class_and_a_latent_for_each_row(told):
    generator = load_generator(told)
    z = torch.randn(6, 64, generator=torch.Generator().manual_seed(3))
    rows = [generator.network(z[i].expand(10, -1), torch.arange(10)) for i in range(6)]
    expected = image_grid(torch.cat(rows), columns=10)
    with Image.open(told / "samples" / "step-00000002.png") as picture:
        assert picture.size == (10 * 68 + 4, 6 * 68 + 4)
        assert np.abs(np.asarray(picture).astype(int) - expected[0].numpy()).max() <= 1


def test_pictures_of_classes(told):
    generator = load_generator(told)
    grid = pictures.class_grid(generator, 3, seed=1, labels=[4, 9])
    rows = [image_grid(generator.sample(3, seed=1, labels=label), columns=3) for label in (4, 9)]
    assert torch.equal(grid[:, 68:], rows[1])
    assert torch.equal(grid[:, :72], rows[0])
    tour = pictures.interpolation(generator, 2, seed=4, psi=1.0, steps=3, label=6)
    torch.testing.assert_close(tour[[0, 3]], generator.sample(2, seed=4, labels=6), rtol=1e-5, atol=1e-6)
    with pytest.raises(UserError, match="--label is missing, expected one of 0, 1, 2"):
        pictures.interpolation(generator, 2, seed=4, psi=1.0, steps=3)


def test_classes_that_a_generator_has_not(told, tiny):
    generator = load_generator(told)
    with pytest.raises(UserError, match="--label is '10', expected one of 0, 1, 2, 3"):
        generator.labels_of(["1", "10"])
    for labels, error, message in (
        (10, ValueError, r"sample: labels hold \[10\], expected 0 to 9"),
        (torch.tensor([0, -1]), ValueError, r"sample: labels hold \[-1, 0\], expected 0 to 9"),
        (torch.tensor([0, 1, 2]), ValueError, r"sample: labels has shape \[3\], expected \[2\]"),
        (torch.tensor([0.0, 1.0]), TypeError, r"sample: labels is torch.float32, expected labels"),
    ):
        with pytest.raises(error, match=message):
            generator.sample(2, labels=labels)
    with pytest.raises(UserError, match=r"--psi is 0.5, expected 1"):
        generator.sample(2, psi=0.5)

    untold = load_generator(train(tiny(steps=1, conditional="semi-supervised"), quiet=True).run)
    assert untold.classes == {}
    for call in (lambda: untold.sample(2, labels=1), lambda: untold.labels(2)):
        with pytest.raises(ValueError, match="the generator is unconditional"):
            call()
    with pytest.raises(UserError, match="--label is '1', expected none: the generator is unconditional"):
        untold.labels_of(["1"])


@pytest.mark.parametrize("preset", ["digits-dcgan", "digits-resnet"])
def test_critics(preset, tiny):
    images = torch.randn(4, 1, 8, 8)
    kinds = {"projection": ProjectionCritic, "auxiliary-classifier:2": AuxiliaryClassifierCritic}
    for conditional, kind in kinds.items():
        critic = build_critic(tiny(preset=preset, penalty="none", conditional=conditional), 7)
        assert isinstance(critic, kind)
    assert critic(images).shape == (4, 8)
    assert build_critic(tiny(preset=preset, penalty="none", conditional="semi-supervised"), 7)(images).shape == (4, 7)


def test_names():
    assert parse("").name == ""
    assert [parse(name) for name in CONDITIONINGS] == list(CONDITIONINGS.values())
    assert "conditional" not in CHANGEABLE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conditional": "cgan"}, "--conditional is 'cgan', expected one of projection, auxiliary-classifier"),
        ({"conditional": "projection:2"}, "--conditional is 'projection:2', expected one of projection"),
        ({"conditional": "auxiliary-classifier:0"}, "'auxiliary-classifier:0', expected a weight above 0, as in"),
        ({"conditional": "auxiliary-classifier:x"}, "'auxiliary-classifier:x', expected a weight above 0"),
        ({**PROJECTION, "loss": "mmd"}, "--loss is 'mmd', expected an objective of logits: --conditional"),
        ({**PROJECTION, "pack": 2}, "--pack is 2, expected 1: with --conditional every sample has a class"),
        ({**PROJECTION, "loss": "began"}, "--loss is 'began', expected an objective of logits"),
        (
            {**PROJECTION, "preset": "stylegan2-small"},
            "--conditional is 'projection', expected semi-supervised, or none: the generator of stylegan2-small has no",
        ),
    ],
)  # fmt: skip
def test_what_is_refused(changes, message, tmp_path):
    with pytest.raises(UserError, match=message):
        TrainConfig.for_preset(**{"preset": "digits-dcgan", "out": tmp_path / "run", **changes})


def test_data_without_classes_are_refused(tiny, pets, tmp_path):
    message = r"--conditional is 'projection', but --data 'textures' has no classes; expected 'digits', or a folder"
    with pytest.raises(UserError, match=message):
        train(tiny("textures", conditional="projection", data="textures"), quiet=True)
    (tmp_path / "pets" / "dogs").rename(tmp_path / "dogs")
    with pytest.raises(UserError, match=r"has the one class 'cats'; expected"):
        train(tiny("cats", conditional="projection", data=pets), quiet=True)


def test_other_classes_are_other_data(tiny, pets, tmp_path):
    run = train(tiny(conditional="semi-supervised", data=pets, batch_size=8, steps=1), quiet=True).run
    (tmp_path / "pets" / "dogs").rename(tmp_path / "pets" / "wolves")
    with pytest.raises(UserError, match=r"--data has the classes \{'cats': 16, 'wolves': 8\}, but the run was started"):
        resume(run, quiet=True, steps=2)


def test_another_use_of_the_classes_is_another_run(told):
    with pytest.raises(UserError, match="--conditional is 'auxiliary-classifier', but the run was started with 'proj"):
        resume(told, quiet=True, steps=5, conditional="auxiliary-classifier")


def test_runs_of_before_there_were_classes_still_load(tiny):
    """Their settings have no such entry, and their checkpoints none of the data's classes."""
    result = train(tiny(steps=2), quiet=True)
    expected = load_generator(result.run).sample(4)
    tensors, header = read_checkpoint(result.checkpoint)
    assert header["classes"] == {}
    assert "random.labels" not in tensors
    del header["classes"], header["config"]["conditional"]
    write_checkpoint(result.run, header, tensors, keep=1)
    assert torch.equal(load_generator(result.run).sample(4), expected)
    assert resume(result.run, quiet=True, steps=3).step == 3
    assert json.loads((result.run / "config.json").read_text())["conditional"] == ""
