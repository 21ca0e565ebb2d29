"""GANs of points: every recipe trains, repeats itself, and leaves the caller's randomness alone; the default covers."""

import copy
import itertools
from dataclasses import replace
from itertools import product

import pytest
import torch

from fastgan.errors import UserError
from fastgan.games import GAMES, Closures
from fastgan.losses import LOSSES
from fastgan.toys import plane
from fastgan.toys.mixtures import ring
from fastgan.toys.plane import PlaneGAN, PlaneRecipe
from fastgan.toys.plane_recipes import DEFAULT, PLANE_RECIPES
from tests.rotation import in_turn

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


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "relativistic_pairing", "penalty": "r1:1,r2:1"},
        {"loss": "hinge", "penalty": "r1:1", "pack": 2},
        {"loss": "minimax", "unroll": 2},
    ],
    ids=["penalties", "packs", "unrolling"],
)
def test_a_snapshot_is_of_the_game_that_is_played(changes, monkeypatch):
    """At the snapshot, on its one batch, the gradients of a step are those that it remembers: the correction is 0."""
    monkeypatch.setattr(plane, "EPOCH_BATCHES", 1)
    gan = PlaneGAN(ring(), PlaneRecipe(optimizer="variance-reduced", batch_size=16, **changes))
    gan.train(2)  # averages of Adam that are not fresh
    data, latents = gan._data(), gan._latents()
    gan._data, gan._latents = lambda: data, lambda: latents
    closures = gan._closures()
    engine = Closures(gan.game, *closures)
    gan.game.differentiate(engine, engine.batch())
    expected = gan.game.gradients()
    gan.train(1)
    for ours, truth in zip(gan.game.memory["mean"], expected, strict=True):
        torch.testing.assert_close(ours, truth)
    plain = gan.loss.critic(gan.critic(data), gan.critic(gan.generator(latents)))
    if gan.penalties:
        assert closures[0]() > plain


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


@pytest.mark.parametrize("optimizer", ["alternating", "consensus"])
def test_penalties_are_of_whole_packs(optimizer):
    gan = PlaneGAN(ring(), PlaneRecipe("hinge", optimizer, "r1:2,r2:6", pack=4, batch_size=32))
    real, fake = gan._data(), gan.generator(gan._latents())
    found = gan._critic_loss(real, fake)
    expected = gan.loss.critic(gan.critic(real), gan.critic(fake))
    for half, points in ((1, real), (3, fake)):
        packs = points.detach().view(8, 8).requires_grad_()  # four points of two coordinates
        (gradients,) = torch.autograd.grad(gan.critic.critic(packs).sum(), packs)
        expected = expected + half * gradients.square().sum(1).mean()
    torch.testing.assert_close(found.detach(), expected.detach())


@pytest.mark.parametrize("pack", [0, 3, 512])
def test_a_batch_is_of_whole_packs(pack):
    with pytest.raises(UserError, match=f"--pack is {pack}, expected a divisor of the batch size, which is 256"):
        PlaneRecipe(pack=pack)


def test_the_unrolled_critic_steps_by_sgd_where_the_players_do():
    gan = PlaneGAN(ring(), PlaneRecipe("minimax", "runge-kutta", unroll=2, lr=0.1, lr_critic=0.3, batch_size=32))
    real, fake = gan._data(), gan.generator(gan._latents()).detach()
    found = gan._unrolled(real, fake)
    critic = copy.deepcopy(gan.critic)
    optimizer = torch.optim.SGD(critic.parameters(), 0.3)
    for _ in range(2):
        optimizer.zero_grad()
        gan.loss.critic(critic(real), critic(fake)).backward()
        optimizer.step()
    torch.testing.assert_close(found.detach(), gan.loss.generator(critic(fake), None).detach())


@pytest.mark.parametrize(
    ("name", "optimizer"), in_turn(list(product(PLANE_RECIPES, [*GAMES, "runge-kutta:2:1"])), "plane: games", run=50)
)
def test_every_method_under_every_optimiser(name, optimizer, monkeypatch):
    """Plays, or is refused before; as it is, without penalties and with them."""
    monkeypatch.setattr(plane, "EPOCH_BATCHES", 1)
    for penalty in (PLANE_RECIPES[name].penalty, "", "r1:1,wgan-gp:1"):
        try:
            recipe = replace(PLANE_RECIPES[name], optimizer=optimizer, penalty=penalty, batch_size=8)
        except UserError as error:
            assert name == "unrolled, 5 steps"
            assert "unrolling" in str(error)  # noqa: PT017 (the one refusal there is)
            continue
        plays(recipe)


@pytest.mark.parametrize("loss", [*LOSSES, "label_smoothing:0.9:nonsaturating", "feature_matching:hinge"])
@pytest.mark.parametrize("name", ["plain", "unrolled, 5 steps", "minibatch discrimination", "packing"])
def test_every_objective(loss, name):
    if loss in ("ebgan", "began", "feature_matching:hinge"):
        with pytest.raises(UserError, match=f"^--loss is '{loss}', expected an objective of logits or of features"):
            replace(PLANE_RECIPES[name], loss=loss)
        return
    first_order = name == "unrolled, 5 steps"
    penalties, optimizers = ("",) if first_order else ("", "r1:1,dragan:1"), ("lookahead", "consensus:0.1")
    for penalty, optimizer in itertools.product(penalties, optimizers[: 1 if first_order else 2]):
        plays(replace(PLANE_RECIPES[name], loss=loss, penalty=penalty, optimizer=optimizer, batch_size=8))


def plays(recipe):
    gan = PlaneGAN(ring(), recipe)
    before = [p.detach().clone() for p in gan.game.parameters]
    gan.train(1)
    assert all(p.isfinite().all() for p in gan.game.parameters)
    assert any((p != q).any() for p, q in zip(gan.game.parameters, before, strict=True))


def test_the_average_is_what_is_judged():
    gan = PlaneGAN(ring(), replace(DEFAULT, ema=0.5))
    old = [p.detach().clone() for p in gan.generator.parameters()]
    gan.train(1)
    for average, first, new in zip(gan._average.parameters(), old, gan.generator.parameters(), strict=True):
        torch.testing.assert_close(average.detach(), (first + new.detach()) / 2)


@pytest.mark.thorough
def test_a_shorter_run_of_the_default_finds_every_mode_of_the_ring():
    gan = PlaneGAN(ring(), replace(DEFAULT, steps=3000, ema=0.99), seed=0)
    gan.train(3000)
    found = gan.coverage()
    assert found.modes == 8
    assert found.high_quality > 0.5
