"""Runs with classes: resumed bit for bit, sampled by class, and refused where classes make no sense."""

import numpy as np
import pytest
import torch
from PIL import Image

from fastgan import recipes
from fastgan.errors import UserError
from fastgan.models import AuxiliaryClassifierCritic, ProjectionCritic
from fastgan.tasks import pictures
from fastgan.tasks.conditioning import CONDITIONINGS, parse
from fastgan.tasks.grid import image_grid
from fastgan.train.checkpoint import find_checkpoint, read_checkpoint
from tests.rotation import in_turn
from tests.train.steps import begun, networks, recipe_of, resumed

pytestmark = pytest.mark.usefixtures("one_thread")


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
NOISE = "{from: 0.3, to: 0, over: 9}"
RUNS = {
    "projection, one pass": {**PROJECTION, "name": "digits-resnet", "penalty": "r1:1,r2:1"},
    "projection, spectral norm": {**PROJECTION, "loss": "hinge", "spectral_norm": True},
    "projection, epochs apart": {**PROJECTION, "name": "digits-resnet", "game": "variance-reduced"},
    "projection, noise": {**PROJECTION, "instance_noise": NOISE, "orthogonal": 1e-4},
    "auxiliary classifier, unrolled": {"conditional": "auxiliary-classifier", "unroll": 1},
    "auxiliary classifier": {"conditional": "auxiliary-classifier:0.5"},
    "auxiliary classifier, penalties": {
        "conditional": "auxiliary-classifier", "penalty": "r1:1,wgan-gp:1:one-sided", "game": "consensus"
    },
    "semi-supervised": {"conditional": "semi-supervised"},
    "semi-supervised, penalties": {"conditional": "semi-supervised", "name": "digits-resnet", "penalty": "r1:1,r2:1"},
    "noise and unrolling": {**PROJECTION, "instance_noise": NOISE, "unroll": 1},
}  # fmt: skip


@pytest.mark.parametrize("settings", in_turn(list(RUNS.values()), "resumed with classes", run=3), ids=RUNS)
def test_a_resumed_run_goes_on_bit_for_bit(settings, tmp_path, pets):
    folder = resumed(tmp_path, **{"name": "digits-dcgan", "image": pets, "batch_size": 8, **settings})
    _, header = read_checkpoint(find_checkpoint(folder, "--out"))
    assert header["sources"]["image"]["classes"] == {"cats": 16, "dogs": 8}
    assert recipes.load(folder).task.sample(3).isfinite().all()


@pytest.mark.parametrize("conditional", ["projection", "auxiliary-classifier"])
def test_samples_are_of_the_class_that_is_asked_for(conditional, pets):
    """With ten times the recipe's learning rate, 30 steps tell dark from bright."""
    chosen = {"image": pets, "batch_size": 8, "penalty": "", "ema": 0.5, "steps": 30, "lr": 4e-3, "lr_critic": 4e-3}
    run = begun(recipe_of("digits-resnet", conditional=conditional, **chosen))
    for _ in run:
        pass
    task = run.task
    cats, dogs = (task.sample(32, labels=label).mean().item() for label in task.labels_of(["cats", "dogs"]))
    assert cats < dogs - 0.5


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The run of a generator that is told digits."""
    recipe = recipe_of("digits-dcgan", steps=2, seed=3, conditional="projection")
    return recipes.start(recipe, tmp_path_factory.mktemp("conditional") / "run", quiet=True).folder


def test_samples_by_label(told):
    task = recipes.load(told).task
    assert list(task.classes) == list(task.told_classes) == list("0123456789")
    assert sum(task.classes.values()) == 1797
    labels = torch.arange(300) % 10
    images = task.sample(300, seed=4, labels=labels)
    z = torch.randn(300, 64, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(images, task.network(z, labels), rtol=1e-5, atol=1e-6)
    assert torch.equal(task.sample(5, seed=4, labels=7), task.sample(5, seed=4, labels=torch.tensor([7] * 5)))
    assert torch.equal(task.sample(5, seed=4), task.sample(5, seed=4, labels=task.labels(5, seed=4)))
    assert not torch.equal(task.labels(50, seed=4), task.labels(50, seed=5))
    assert task.labels(3000).bincount(minlength=10).min() > 200


def test_the_picture_has_a_column_for_each_class_and_a_latent_for_each_row(told):
    task = recipes.load(told).task
    z = torch.randn(6, 64, generator=torch.Generator().manual_seed(3))
    rows = [task.network(z[i].expand(10, -1), torch.arange(10)) for i in range(6)]
    expected = image_grid(torch.cat(rows), columns=10)
    with Image.open(told / "samples" / "step-00000002.png") as picture:
        assert picture.size == (10 * 68 + 4, 6 * 68 + 4)
        assert np.abs(np.asarray(picture).astype(int) - expected[0].numpy()).max() <= 1


def test_pictures_of_classes(told):
    task = recipes.load(told).task
    grid = pictures.class_grid(task, 3, seed=1, labels=[4, 9])
    rows = [image_grid(task.sample(3, seed=1, labels=label), columns=3) for label in (4, 9)]
    assert torch.equal(grid[:, 68:], rows[1])
    assert torch.equal(grid[:, :72], rows[0])
    tour = pictures.interpolation(task, 2, seed=4, psi=1.0, steps=3, label=6)
    torch.testing.assert_close(tour[[0, 3]], task.sample(2, seed=4, labels=6), rtol=1e-5, atol=1e-6)
    with pytest.raises(UserError, match="--label is missing, expected one of 0, 1, 2"):
        pictures.interpolation(task, 2, seed=4, psi=1.0, steps=3)


def test_classes_that_a_generator_has_not(told):
    task = recipes.load(told).task
    with pytest.raises(UserError, match="--label is '10', expected one of 0, 1, 2, 3"):
        task.labels_of(["1", "10"])
    for labels, error, message in (
        (10, ValueError, r"sample: labels hold \[10\], expected 0 to 9"),
        (torch.tensor([0, -1]), ValueError, r"sample: labels hold \[-1, 0\], expected 0 to 9"),
        (torch.tensor([0, 1, 2]), ValueError, r"sample: labels has shape \[3\], expected \[2\]"),
        (torch.tensor([0.0, 1.0]), TypeError, r"sample: labels is torch.float32, expected labels"),
    ):
        with pytest.raises(error, match=message):
            task.sample(2, labels=labels)
    with pytest.raises(UserError, match=r"--psi is 0.5, expected 1"):
        task.sample(2, psi=0.5)

    untold = begun(recipe_of("digits-dcgan", conditional="semi-supervised")).task
    assert untold.told_classes == ()
    for call in (lambda: untold.sample(2, labels=1), lambda: untold.labels(2)):
        with pytest.raises(ValueError, match="the generator is unconditional"):
            call()
    with pytest.raises(UserError, match="--label is '1', expected none: the generator is unconditional"):
        untold.labels_of(["1"])


@pytest.mark.parametrize("recipe", ["digits-dcgan", "digits-resnet"])
def test_critics(recipe):
    images = torch.randn(4, 1, 8, 8)
    kinds = {"projection": ProjectionCritic, "auxiliary-classifier:2": AuxiliaryClassifierCritic}
    for conditional, kind in kinds.items():
        _, critic = networks(begun(recipe_of(recipe, penalty="", conditional=conditional)))
        assert isinstance(critic, kind)
    assert critic(images).shape == (4, 11)
    _, critic = networks(begun(recipe_of(recipe, penalty="", conditional="semi-supervised")))
    assert critic(images).shape == (4, 10)


def test_names():
    assert parse("").name == ""
    assert [parse(name) for name in CONDITIONINGS] == list(CONDITIONINGS.values())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"conditional": "cgan"}, "task.conditional is 'cgan', expected one of projection, auxiliary-classifier"),
        ({"conditional": "projections"}, "task.conditional is 'projections', expected 'projection', or another of"),
        ({"conditional": "projection:2"}, "task.conditional is 'projection:2', expected 'projection', or another of"),
        ({"conditional": "auxiliary-classifier:0"}, "'auxiliary-classifier:0', expected a weight above 0, as in"),
        ({"conditional": "auxiliary-classifier:x"}, "'auxiliary-classifier:x', expected a weight above 0"),
        ({**PROJECTION, "loss": "mmd"}, "task.loss is 'mmd', expected another: projection is of the logits and the c"),
        ({**PROJECTION, "pack": 2}, "task.pack is 2, expected another: projection is of the logits and the class of"),
        ({**PROJECTION, "loss": "began"}, "task.loss is 'began', expected another"),
        (
            {**PROJECTION, "name": "stylegan2-small", "image": "digits", "channels": 1, "resolution": 8},
            "task.conditional is 'projection', expected semi-supervised, or none: stylegan2 has no batch norm",
        ),
    ],
)
def test_what_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        begun(recipe_of(**{"name": "digits-dcgan", **settings}))


def test_data_without_classes_are_refused(pets, tmp_path):
    message = r"task.conditional is 'projection', but the data have no classes; expected 'digits', or a folder"
    with pytest.raises(UserError, match=message):
        begun(recipe_of("digits-dcgan", image="textures", **PROJECTION))
    (tmp_path / "pets" / "dogs").rename(tmp_path / "dogs")
    with pytest.raises(UserError, match=r"have the one class 'cats'; expected"):
        begun(recipe_of("digits-dcgan", image=pets, **PROJECTION))


def test_other_classes_are_other_data(pets, tmp_path):
    chosen = {"conditional": "semi-supervised", "image": pets, "batch_size": 8}
    recipes.start(recipe_of("digits-dcgan", steps=1, **chosen), tmp_path / "run", quiet=True)
    (tmp_path / "pets" / "dogs").rename(tmp_path / "pets" / "wolves")
    message = r"pets has the classes \{'cats': 16, 'wolves': 8\}, but the run was started with"
    with pytest.raises(UserError, match=message):
        recipes.start(recipe_of("digits-dcgan", steps=2, **chosen), tmp_path / "run", resume=True, quiet=True)


def test_another_use_of_the_classes_is_another_run(told):
    recipe = recipe_of("digits-dcgan", steps=5, seed=3, conditional="auxiliary-classifier")
    message = "task.conditional is 'auxiliary-classifier', but the run was started with 'proj"
    with pytest.raises(UserError, match=message):
        recipes.start(recipe, told, resume=True, quiet=True)
