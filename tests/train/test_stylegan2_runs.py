"""A StyleGAN2 trained from the settings: lazy regularisation, resumption, and the pictures that it is asked for."""

import json
import math

import pytest
import torch
from PIL import Image

from fastgan.data import load
from fastgan.errors import UserError
from fastgan.losses import LOSSES
from fastgan.penalties import parse, path_length
from fastgan.train import load_generator, pictures, resume, train
from fastgan.train.checkpoint import find_checkpoint, read_checkpoint
from fastgan.train.closures import critic_objective
from fastgan.train.path_length import path_length_gradients
from fastgan.train.regularisation import Regularisation
from fastgan.train.state import TrainState
from fastgan.train.step import train_step

SMALL = {"preset": "stylegan2-small", "data": "textures", "resolution": "8", "batch_size": 4}
LAZY = {"penalty": "r1:3", "penalty_every": 4, "path_length": 2.0, "path_length_every": 3}


@pytest.fixture
def state(tiny):
    def make(**changes):
        return TrainState(tiny(**{**SMALL, **changes}), load("textures", 8, 3), torch.device("cpu"))

    return make


def test_a_lazy_penalty_counts_as_often_as_it_is_left_out(state):
    """The gradient with interval k, less that without the penalty, is k times the penalty's."""
    loss, penalties = LOSSES["nonsaturating"], parse("r1:3")
    gradients = {}
    for times in (0, 1, 4):
        made = state()
        made.critic.double()
        made.generator.double().eval()
        images = made.next_batch().images.double()
        latents = made.next_latents
        made.next_latents = lambda draw=latents: draw().double()
        total, step = critic_objective(made, loss, images, made.next_latents(), penalties if times else (), times)
        total.backward()
        gradients[times] = torch.cat([p.grad.flatten() for p in made.critic.parameters()])
        if times:
            assert step.penalties["r1"].item() == pytest.approx(
                gradients.setdefault("value", step.penalties["r1"].item())
            )
    torch.testing.assert_close(gradients[4] - gradients[0], 4 * (gradients[1] - gradients[0]), rtol=1e-6, atol=1e-12)


def test_each_regulariser_comes_at_its_interval(state):
    made = state(**LAZY, loss="nonsaturating")
    regularisation = Regularisation(parse("r1:3"), 4, 2.0, 3)
    seen = [sorted(train_step(made, regularisation).penalties) for _ in range(7)]
    assert seen == [["path_length", "r1"], [], [], ["path_length"], ["r1"], [], ["path_length"]]


def test_path_length_gradients_are_added(state):
    made = state(**LAZY)
    made.generator.eval()
    for parameter in made.generator.parameters():
        parameter.grad = torch.ones_like(parameter)
    random, latents = torch.get_rng_state(), made._latents.get_state()
    value = path_length_gradients(made, 2.0, 3, made.next_latents(), made.path_length.clone())
    assert made.path_length.item() > 0
    torch.set_rng_state(random)
    made._latents.set_state(latents)
    expected = path_length(made.generator, made.next_latents()[:2], torch.zeros([]))
    torch.testing.assert_close(value, 2 * expected.penalty.detach())
    torch.testing.assert_close(made.path_length, expected.mean)
    gradients = torch.autograd.grad(expected.penalty, list(made.generator.parameters()), allow_unused=True)
    for parameter, gradient in zip(made.generator.parameters(), gradients, strict=True):
        torch.testing.assert_close(
            parameter.grad - 1, 0 * parameter if gradient is None else 6 * gradient, rtol=1e-4, atol=1e-5
        )


def tensors(run):
    return read_checkpoint(find_checkpoint(run, "--out"))[0]


def test_a_resumed_run_goes_on_bit_for_bit(tiny):
    whole = train(tiny("whole", steps=8, **SMALL, **LAZY), quiet=True)
    first = train(tiny("parts", steps=5, **SMALL, **LAZY), quiet=True)
    resume(first.run, quiet=True, steps=8)
    expected, found = tensors(whole.run), tensors(first.run)
    assert "path_length" in expected
    assert expected.keys() == found.keys()
    for name in expected:
        assert torch.equal(expected[name], found[name]), name


def test_the_log_shows_every_regulariser_as_it_was_last(tiny):
    run = train(tiny(steps=6, **SMALL, **LAZY), quiet=True).run
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    r1 = [line["penalty_r1"] for line in lines]
    assert r1[0] == r1[1] == r1[2] == r1[3] != r1[4] == r1[5]
    assert all(line["penalty_path_length"] >= 0 for line in lines)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "digits-resnet", "path_length": 1.0}, "--path-length is 1.0, expected 0: the generator of digits"),
        ({"preset": "stylegan2-small", "path_length": -1.0}, "--path-length is -1.0, expected a number of at least 0"),
        ({"preset": "stylegan2-small", "penalty_every": 0}, "--penalty-every is 0, expected at least 1"),
        ({"preset": "stylegan2-small", "resolution": "big"}, "--resolution is 'big', expected a size such as 64"),
        ({"preset": "stylegan2-small", "channels": 2}, "--channels is 2, expected 1 or 3"),
    ],
)
def test_wrong_settings(tiny, changes, message):
    with pytest.raises(UserError, match=message):
        tiny(**changes)


def test_a_resolution_that_the_networks_cannot_have(tiny):
    with pytest.raises(UserError, match="--resolution is '12': resolution is 12, expected 8 to 1024"):
        train(tiny(**{**SMALL, "resolution": "12"}), quiet=True)


def test_images_need_not_be_square(tiny):
    run = train(tiny(steps=2, **{**SMALL, "resolution": "8x16"}), quiet=True).run
    assert load_generator(run).sample(3).shape == (3, 3, 8, 16)


# --- pictures -----------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(tiny):
    generator = load_generator(train(tiny(steps=2, **SMALL), quiet=True).run)
    generator.network.mapping.w_avg.normal_(generator=torch.Generator().manual_seed(0))
    return generator


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


def test_interpolation_without_styles_keeps_the_length_of_the_latents(tiny):
    generator = load_generator(train(tiny(preset="digits-resnet", steps=2), quiet=True).run)
    seen = []
    generator.network.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    tour = pictures.interpolation(generator, 2, seed=4, psi=1.0, steps=5)
    assert len(tour) == 10
    z = seen[0].double()
    a, b = z[0], z[5]
    angle = math.acos(a @ b / (a.norm() * b.norm()))
    shares = torch.linalg.lstsq(torch.stack([a, b], 1), z[:6].t()).solution
    expected = torch.tensor([[math.sin((1 - t / 5) * angle), math.sin(t / 5 * angle)] for t in range(6)])
    torch.testing.assert_close(shares.t(), expected.double() / math.sin(angle), rtol=0, atol=1e-5)
    assert 0.95 * min(a.norm(), b.norm()) < z.norm(dim=1).min()
    torch.testing.assert_close(tour[[0, 5]], generator.sample(2, seed=4), rtol=1e-4, atol=1e-4)
    for call in (lambda: generator.sample(2, psi=0.5), lambda: pictures.interpolation(generator, 2, 0, 0.5, 2)):
        with pytest.raises(UserError, match="has no styles"):
            call()


def test_a_film_has_every_image(trained, tmp_path):
    pictures.write_gif(pictures.interpolation(trained, 2, seed=0, psi=1.0, steps=3), tmp_path / "tour.gif")
    with Image.open(tmp_path / "tour.gif") as film:
        assert (film.n_frames, film.size, film.info["loop"]) == (6, (64, 64), 0)
