"""Samples beside their nearest training images: the picture, and the figure that shows a copying generator."""

import dataclasses

import pytest
import torch

from fastgan import recipes
from fastgan.cli.neighbours import neighbours_grid
from fastgan.data import digits
from fastgan.errors import UserError
from fastgan.tasks.grid import image_grid
from tests.command_line import assert_refused, call
from tests.train.steps import recipe_of

pytestmark = pytest.mark.usefixtures("one_thread")


class Copies(torch.nn.Module):
    """Returns training images, whatever the latents."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, z):
        return digits().pixels[(1000 * z[:, 0].abs()).long() % 1797]


@pytest.fixture
def folder(tmp_path):
    return recipes.start(recipe_of("digits-dcgan", steps=2), tmp_path / "run", quiet=True).folder


@pytest.fixture
def trained(folder):
    return recipes.load(folder)


def test_each_row_is_a_sample_and_its_nearest_training_images(trained):
    picture, near = neighbours_grid(trained, rows=3, k=2, seed=5)
    samples, images = trained.task.sample(256, seed=5), digits().pixels
    distances = (samples[:, None] - images).flatten(2).norm(dim=2)
    rows = [torch.cat([sample[None], images[row.topk(2, largest=False).indices]])
            for sample, row in zip(samples[:3], distances, strict=False)]  # fmt: skip
    assert torch.equal(picture, image_grid(torch.cat(rows), columns=3))
    assert near.samples == pytest.approx(distances.amin(1).median().item(), rel=1e-5)
    assert near.ratio > 1.2  # two steps of training make noise


def test_a_generator_that_copies_is_seen(trained):
    trained.task.averages["generator"] = Copies()
    picture, near = neighbours_grid(trained, rows=4, k=1, seed=5)
    assert near.samples == near.ratio == 0
    assert near.data > 1
    left, right = picture[:, 4:, 4:].unfold(1, 64, 68).unfold(2, 64, 68)[0].unbind(1)
    assert torch.equal(left, right)


def test_neighbours_from_the_command_line(folder, trained, tmp_path):
    run, png = folder, tmp_path / "neighbours.png"
    code, out, _ = call("sample", run, "--neighbours", 3, "--n", 2, "--out", png)
    near = neighbours_grid(trained, 2, 3, 0)[1]
    assert code == 0
    assert out == (
        f"median distance to the nearest training image: samples {near.samples:.3f}, training images "
        f"{near.data:.3f}, ratio {near.ratio:.2f}\nwrote {png}\n"
    )
    assert png.read_bytes().startswith(b"\x89PNG")
    assert_refused(
        call("sample", run, "--neighbours", 3, "--mix"),
        "--mix, --interpolate and --neighbours each make a picture of their own, at one --psi; expected one of them",
    )


def test_data_that_cannot_be_compared(trained, monkeypatch):
    few = dataclasses.replace(digits(), pixels=digits().pixels[:4], labels=None, classes=())
    with monkeypatch.context() as patch:
        patch.setattr("fastgan.recipes.trained.Trained.sources", lambda _: {"image": few})
        with pytest.raises(UserError, match="was trained on 4 images, expected at least 5 for --neighbours 5"):
            neighbours_grid(trained, rows=1, k=5, seed=0)
    gone = dataclasses.replace(trained, recipe=recipe_of("digits-dcgan", image="/gone"))
    with pytest.raises(UserError, match="CHECKPOINT was trained on data that cannot be read again: --data is '/gone'"):
        neighbours_grid(gone, rows=1, k=5, seed=0)
