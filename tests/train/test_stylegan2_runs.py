"""A StyleGAN2 trained from a recipe: lazy regularisation, resumption, and the pictures that it is asked for."""

import math

import pytest
import torch
from PIL import Image

from fastgan import recipes
from fastgan.errors import UserError
from fastgan.tasks import pictures
from fastgan.terms import path_length
from tests.train.steps import begin, begun, gradients, log_of, networks, recipe_of, resumed

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = {"resolution": 8, "batch_size": 4}
LAZY = {"penalty": "r1:3", "penalty_every": 4, "path_length": 2.0, "path_length_every": 3}


def small(**settings):
    return recipe_of("stylegan2-small", **{**SMALL, **settings})


def test_a_lazy_penalty_counts_as_often_as_it_is_left_out():
    """The gradient with interval k, less that without the penalty, is k times the penalty's."""
    found, values = {}, []
    for every in (0, 1, 4):
        run = begun(small(penalty="r1:3" if every else "", penalty_every=max(1, every)), torch.float64)
        run.task.generators.eval()
        grads, _ = gradients(run, "critic", run.engine.batch())
        found[every] = torch.cat([g.flatten() for g in grads])
        values += [run.engine.log["penalty_r1"].item()] if every else []
    assert values[0] == pytest.approx(values[1])
    torch.testing.assert_close(found[4] - found[0], 4 * (found[1] - found[0]), rtol=1e-6, atol=1e-12)


def test_each_regulariser_comes_at_its_interval():
    run, seen = begun(small(**LAZY, steps=7)), []
    for _ in range(7):
        next(run)
        seen.append(sorted(name[8:] for name in run.engine.log if name.startswith("penalty_")))
    assert seen == [["path_length", "r1"], [], [], ["path_length"], ["r1"], [], ["path_length"]]


def test_path_length_gradients_are_added():
    plain, lazy = (begun(small(**{**LAZY, "path_length": weight})) for weight in (0.0, 2.0))
    found = []
    for run in (plain, lazy):
        run.task.generators.eval()  # no mixing of styles
        found.append(gradients(run, "generator", run.engine.batch())[0])
    batch = begin(lazy).engine.batch()
    generator, _ = networks(lazy)
    torch.manual_seed(batch.key)  # of the random image
    expected = path_length(generator, batch.tensors["path_latent"][:2], torch.zeros([]))
    added = torch.autograd.grad(expected.penalty, list(generator.parameters()), allow_unused=True)
    for with_it, without, gradient in zip(*reversed(found), added, strict=True):
        truth = torch.zeros_like(without) if gradient is None else 6 * gradient
        torch.testing.assert_close(with_it - without, truth, rtol=1e-3, atol=1e-4)


def test_the_mean_path_length_moves_with_the_step():
    run = begun(small(**LAZY))
    run.task.generators.eval()
    batch = run.engine.batch()
    run.engine.gradient("generator", batch)
    value, mean = run.engine.log["penalty_path_length"], run.engine.log["path_length_mean"]
    torch.manual_seed(batch.key)
    expected = path_length(networks(run)[0], batch.tensors["path_latent"][:2], torch.zeros([]))
    torch.testing.assert_close(value, 2 * expected.penalty.detach())
    torch.testing.assert_close(mean, expected.mean)
    run.task.after_step(run.engine.log, {}, run.now())
    torch.testing.assert_close(run.task.path_length_mean, expected.mean)


def test_a_resumed_run_goes_on_bit_for_bit(tmp_path):
    resumed(tmp_path, "stylegan2-small", **SMALL, **{**LAZY, "path_length_every": 3}, steps=8)


def test_the_log_shows_every_regulariser_as_it_was_last(tmp_path):
    outcome = recipes.start(small(steps=6, **LAZY), tmp_path / "run", quiet=True)
    lines = log_of(outcome.folder)
    r1 = [line["penalty_r1"] for line in lines]
    assert r1[0] == r1[1] == r1[2] == r1[3] != r1[4] == r1[5]
    assert all(line["penalty_path_length"] >= 0 for line in lines)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "digits-resnet", "path_length": 1.0}, "task.path_length is 1.0, expected 0: the generator has no st"),
        ({"path_length": -1.0}, "task.path_length is -1.0, expected greater than or equal to 0"),
        ({"penalty_every": 0}, "task.penalty_every is 0, expected greater than or equal to 1"),
        ({"resolution": "big"}, "data.resolution is 'big', expected a size such as 64"),
        ({"channels": 2}, "data.channels is 2, expected 1 or 3"),
        ({"resolution": 12}, "task.generator cannot be built: resolution is 12, expected 8 to 1024"),
        ({"orthogonal": 1e-4}, "task.orthogonal is 0.0001, expected none for stylegan2: its styles turn the filters"),
        (
            {"image": "digits", "channels": 1, "conditional": "projection"},
            "task.conditional is 'projection', expected s",
        ),
        ({"loss": "ebgan"}, "task.loss is 'ebgan', expected another objective: stylegan2 makes no autoencoder"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(UserError, match=message):
        begun(recipe_of(**{"name": "stylegan2-small", **SMALL, **settings}))


def test_images_need_not_be_square():
    run = begun(small(resolution="8x16"))
    next(run)
    assert run.task.sample(3).shape == (3, 3, 8, 16)


# --- pictures -----------------------------------------------------------------------------------------------------


@pytest.fixture
def trained():
    run = begun(small())
    for _ in range(2):
        next(run)
    run.task.network.mapping.w_avg.normal_(generator=torch.Generator().manual_seed(0))
    return run.task


def test_truncation_grid_has_a_row_for_each_psi(trained):
    grid = pictures.truncation_grid(trained, 3, seed=1, psis=[0.0, 1.0])
    images = grid[:, 4:, 4:].unfold(1, 64, 68).unfold(2, 64, 68)
    assert images.shape[1:3] == (2, 3)
    assert torch.equal(images[:, 0, 0], images[:, 0, 2])  # psi = 0: the mean image
    assert not torch.equal(images[:, 1, 0], images[:, 1, 2])


def test_mixing_grid_crosses_the_layers(trained):
    n, network = 3, trained.network
    ws = network.ws(torch.randn(2 * n, 128, generator=torch.Generator().manual_seed(2)), 0.8)
    grid = pictures.mixing_grid(trained, n, seed=2, psi=0.8)
    images = grid[:, 4:, 4:].unfold(1, 64, 68).unfold(2, 64, 68)
    assert images.shape[1:3] == (n + 1, n + 1)
    assert (images[:, 0, 0] == 0).all()
    crossed = torch.cat([ws[1, : network.num_ws // 2], ws[n + 2, network.num_ws // 2 :]])
    expected = pictures.image_grid(network.synthesis(crossed[None]), gap=0)
    difference = images[:, 2, 3].int() - expected.int()
    assert difference.abs().max() <= 1  # batches of another size are rounded otherwise


def test_interpolation_passes_through_its_latents(trained):
    tour = pictures.interpolation(trained, 3, seed=4, psi=0.7, steps=4)
    assert tour.shape == (12, 3, 8, 8)
    torch.testing.assert_close(tour[::4], trained.sample(3, seed=4, psi=0.7), rtol=1e-4, atol=1e-4)


def test_interpolation_without_styles_keeps_the_length_of_the_latents():
    run, seen = begun(recipe_of("digits-resnet")), []
    next(run)
    task = run.task
    task.network.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    tour = pictures.interpolation(task, 2, seed=4, psi=1.0, steps=5)
    assert len(tour) == 10
    z = seen[0].double()
    a, b = z[0], z[5]
    angle = math.acos(a @ b / (a.norm() * b.norm()))
    shares = torch.linalg.lstsq(torch.stack([a, b], 1), z[:6].t()).solution
    expected = torch.tensor([[math.sin((1 - t / 5) * angle), math.sin(t / 5 * angle)] for t in range(6)])
    torch.testing.assert_close(shares.t(), expected.double() / math.sin(angle), rtol=0, atol=1e-5)
    assert 0.95 * min(a.norm(), b.norm()) < z.norm(dim=1).min()
    torch.testing.assert_close(tour[[0, 5]], task.sample(2, seed=4), rtol=1e-4, atol=1e-4)
    with pytest.raises(UserError, match="has no styles"):
        task.sample(2, psi=0.5)
    with pytest.raises(UserError, match="a generator without styles"):
        pictures.interpolation(task, 2, 0, 0.5, 2)


def test_a_film_has_every_image(trained, tmp_path):
    pictures.write_gif(pictures.interpolation(trained, 2, seed=0, psi=1.0, steps=3), tmp_path / "tour.gif")
    with Image.open(tmp_path / "tour.gif") as film:
        assert (film.n_frames, film.size, film.info["loop"]) == (6, (64, 64), 0)
