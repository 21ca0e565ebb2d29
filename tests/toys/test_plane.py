"""GANs of points: every recipe trains, repeats itself, and leaves the caller's randomness alone; the default covers."""

import copy
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


def test_the_critic_has_its_own_learning_rate():
    gan, rates = PlaneGAN(ring(), PlaneRecipe(lr=1e-3, lr_critic=1e-4, decay=True, steps=2)), []
    assert [p.optimizer.param_groups[0]["lr"] for p in gan.game.players] == [1e-4, 1e-3]
    gan.train(2, lambda g: rates.append([p.optimizer.param_groups[0]["lr"] for p in g.game.players]))
    assert rates == [pytest.approx([1e-4, 1e-3]), pytest.approx([5e-5, 5e-4])]


def test_the_unrolled_critic_is_the_one_that_its_optimizer_would_make():
    gan = PlaneGAN(ring(), replace(PLANE_RECIPES["unrolled, 5 steps"], unroll=2, batch_size=32))
    gan.train(3)  # averages of Adam that are not fresh
    real, fake = gan._data(), gan.generator(gan._latents()).detach()
    found = gan._unrolled(real, fake)

    critic, loss = copy.deepcopy(gan.critic), gan.loss
    optimizer = torch.optim.Adam(critic.parameters(), 1e-4, (0.5, 0.99))
    optimizer.load_state_dict(copy.deepcopy(gan.game.players[0].optimizer.state_dict()))
    for _ in range(2):
        optimizer.zero_grad()
        loss.critic(critic(real), critic(fake)).backward()
        optimizer.step()
    torch.testing.assert_close(found.detach(), loss.generator(critic(fake), None).detach(), rtol=1e-5, atol=1e-6)
    before = loss.generator(gan.critic(fake), None)
    assert (found - before).abs() > 1e-4  # two steps make a difference


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
