"""GANs of points: every recipe trains, repeats itself, and leaves the caller's randomness alone; the default covers."""

from dataclasses import replace

import pytest
import torch

from fastgan.toys.mixtures import ring
from fastgan.toys.plane import PlaneGAN, PlaneRecipe
from fastgan.toys.plane_recipes import DEFAULT, PLANE_RECIPES

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", PLANE_RECIPES)
def test_every_recipe_trains_and_repeats_itself(name):
    runs = []
    for seed in (3, 3, 4):
        before = torch.get_rng_state()
        gan = PlaneGAN(ring(), PLANE_RECIPES[name], seed)
        start = [p.detach().clone() for p in gan.critic.parameters()]
        gan.train(3)
        assert torch.equal(torch.get_rng_state(), before)
        # The biases of a difference of logits' last layers cancel.
        assert all((p != q).any() for p, q in zip(gan.critic.parameters(), start, strict=True) if p.ndim == 2)
        runs.append(gan.samples(50))
    assert runs[0].isfinite().all()
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_variance_reduction_takes_snapshots():
    gan = PlaneGAN(ring(), PlaneRecipe(optimizer="variance-reduced", batch_size=16))
    gan.train(2)
    assert gan.game.memory["snapshot"][0].shape == gan.game.parameters[0].shape


def test_the_learning_rate_falls_to_zero():
    gan, rates = PlaneGAN(ring(), replace(DEFAULT, steps=4)), []
    gan.train(4, lambda g: rates.append([p.optimizer.param_groups[0]["lr"] for p in g.game.players]))
    assert rates == [[pytest.approx(DEFAULT.lr * share)] * 2 for share in (1, 0.75, 0.5, 0.25)]


def test_the_average_is_what_is_judged():
    gan = PlaneGAN(ring(), replace(DEFAULT, ema=0.5))
    old = [p.detach().clone() for p in gan.generator.parameters()]
    gan.train(1)
    for average, first, new in zip(gan._average.parameters(), old, gan.generator.parameters(), strict=True):
        torch.testing.assert_close(average.detach(), (first + new.detach()) / 2)


def test_a_shorter_run_of_the_default_finds_every_mode_of_the_ring():
    gan = PlaneGAN(ring(), replace(DEFAULT, steps=3000, ema=0.99), seed=0)
    gan.train(3000)
    found = gan.coverage()
    assert found.modes == 8
    assert found.high_quality > 0.5
