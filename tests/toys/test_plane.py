"""GANs of points: every recipe trains, repeats itself, and leaves the caller's randomness alone; the default covers."""

import copy
import itertools

import pytest
import torch

from fastgan.data import mixtures
from fastgan.errors import UserError
from fastgan.games import GAMES
from fastgan.losses import LOSSES
from fastgan.recipes import run_of
from fastgan.toys.plane_recipes import PLANE_RECIPES, plane_recipe
from tests.rotation import in_turn
from tests.train.steps import begin

pytestmark = pytest.mark.usefixtures("one_thread")

DEFAULT, UNROLLED = "R1 + R2, relativistic", "unrolled, 5 steps"


def made(name, *changes, seed=0):
    """A run on the ring."""
    return run_of(plane_recipe(name, "ring", seed, changes))


def take(run, steps):
    for _ in range(steps):
        next(run)


def parameters(run):
    return [p.detach().clone() for player in run.game.players for p in player.parameters]


@pytest.mark.parametrize("name", PLANE_RECIPES)
def test_every_recipe_trains_and_repeats_itself(name):
    found = []
    for seed in (3, 3, 4):
        before = torch.get_rng_state()
        run = made(name, seed=seed)
        start = [p.detach().clone() for p in run.task.critics.parameters()]
        take(run, 3)
        assert torch.equal(torch.get_rng_state(), before)
        # The biases of a difference of logits' last layers cancel.
        assert all((p != q).any() for p, q in zip(run.task.critics.parameters(), start, strict=True) if p.ndim == 2)
        found.append(run.task.sample(50))
    assert found[0].isfinite().all()
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_the_learning_rate_falls_to_zero():
    run, rates = made(DEFAULT, "game.lr.over=4", "game.lr_critic.over=4", "run.steps=4"), []
    for _ in run:
        rates.append([p.optimizer.param_groups[0]["lr"] for p in run.game.players])
    assert rates == [[pytest.approx(1e-3 * share)] * 2 for share in (1, 0.75, 0.5, 0.25)]


def test_the_unrolled_critic_is_the_one_that_its_optimizer_would_make():
    run = made(UNROLLED, "game.unroll=2", "run.batch_size=32")
    take(run, 3)  # averages of Adam that are not fresh
    batch = begin(run).engine.batch()
    found = run.engine.gradient("generator", batch)

    player, loss = run.game.players[0], run.task.loss
    critic, real = copy.deepcopy(run.task.critics["critic"]), batch.tensors["image"]
    fake = run.task.generators["generator"](batch.tensors["latent"]).detach()
    optimizer = torch.optim.Adam(critic.parameters(), 1e-4, (0.5, 0.99))
    optimizer.load_state_dict(copy.deepcopy(player.optimizer.state_dict()))
    for _ in range(2):
        optimizer.zero_grad()
        loss.critic(critic(real), critic(fake)).backward()
        optimizer.step()
    torch.testing.assert_close(found, loss.generator(critic(fake), None).detach(), rtol=1e-5, atol=1e-6)
    before = loss.generator(run.task.critics["critic"](fake), None)
    assert (found - before).abs() > 1e-4  # two steps make a difference


def test_the_unrolled_critic_steps_by_sgd_where_the_players_do():
    changes = ("game.kind=runge-kutta", "game.unroll=2", "game.lr=0.1", "game.lr_critic=0.3", "run.batch_size=32")
    run = made(UNROLLED, *changes)
    batch = begin(run).engine.batch()
    found = run.engine.gradient("generator", batch)
    critic, real = copy.deepcopy(run.task.critics["critic"]), batch.tensors["image"]
    fake = run.task.generators["generator"](batch.tensors["latent"]).detach()
    optimizer = torch.optim.SGD(critic.parameters(), 0.3)
    for _ in range(2):
        optimizer.zero_grad()
        run.task.loss.critic(critic(real), critic(fake)).backward()
        optimizer.step()
    torch.testing.assert_close(found, run.task.loss.generator(critic(fake), None).detach())


@pytest.mark.parametrize("game", ["alternating", "consensus"])
def test_penalties_are_of_whole_packs(game):
    changes = (f"game.kind={game}", "task.loss=hinge", "task.penalty=r1:2,r2:6", "run.batch_size=32")
    run = begin(made("packing", *changes))
    batch, critic = run.engine.batch(), run.task.critics["critic"]
    if run.game.second_order:
        found = run.engine.losses(batch).critic.detach()
    else:
        found = run.engine.gradient("critic", batch)
    real, fake = batch.tensors["image"], run.task.generators["generator"](batch.tensors["latent"])
    expected = run.task.loss.critic(critic(real), critic(fake))
    for half, points in ((1, real), (3, fake)):
        packs = points.detach().view(8, 8).requires_grad_()  # four points of two coordinates
        (gradients,) = torch.autograd.grad(critic.critic(packs).sum(), packs)
        expected = expected + half * gradients.square().sum(1).mean()
    torch.testing.assert_close(found, expected.detach())


def test_a_batch_is_of_whole_packs():
    with pytest.raises(UserError, match=r"^run\.batch_size is 256, expected a multiple of 3, the samples in a pack$"):
        made("packing", "task.pack=3")


@pytest.mark.parametrize(
    ("name", "game"),
    in_turn(list(itertools.product(PLANE_RECIPES, [*GAMES, "runge-kutta:2:1"])), "plane: games", run=50),
)
def test_every_method_under_every_optimiser(name, game, monkeypatch):
    """Plays, or is refused before; as it is, without penalties and with them."""
    monkeypatch.setattr(mixtures, "EPOCH", 8)
    kept = [change for change in PLANE_RECIPES[name] if change.startswith("task.penalty=")]
    for penalty in (*kept, "task.penalty=", "task.penalty=r1:1,wgan-gp:1"):
        try:
            run = made(name, f"game.kind={game}", penalty, "run.batch_size=8")
        except UserError as error:
            assert name == UNROLLED
            assert "unroll" in str(error)  # noqa: PT017 (the one refusal there is)
            continue
        plays(run)


@pytest.mark.parametrize("loss", [*LOSSES, "label_smoothing:0.9:nonsaturating", "feature_matching:hinge"])
@pytest.mark.parametrize("name", ["plain", UNROLLED, "minibatch discrimination", "packing"])
def test_every_objective(loss, name):
    if loss in ("ebgan", "began", "feature_matching:hinge"):
        with pytest.raises(UserError, match=f"^task.loss is '{loss}', expected an objective of logits or of features"):
            made(name, f"task.loss={loss}")
        return
    first_order = name == UNROLLED
    penalties, games = ("",) if first_order else ("", "r1:1,dragan:1"), ("lookahead", "consensus:0.1")
    for penalty, game in itertools.product(penalties, games[: 1 if first_order else 2]):
        changes = (f"task.loss={loss}", f"task.penalty={penalty}", f"game.kind={game}", "run.batch_size=8")
        plays(made(name, *changes))


def plays(run):
    before = parameters(run)
    next(run)
    assert all(p.isfinite().all() for p in run.game.parameters)
    assert any((p != q).any() for p, q in zip(run.game.parameters, before, strict=True))


def test_the_average_is_what_is_judged():
    run = made(DEFAULT, "run.ema=0.1")  # below the warm-up's 2/11
    old = [p.detach().clone() for p in run.task.generators.parameters()]
    next(run)
    averages, new = run.task.averages.parameters(), run.task.generators.parameters()
    for average, first, now in zip(averages, old, new, strict=True):
        torch.testing.assert_close(average, 0.1 * first + 0.9 * now.detach())


@pytest.mark.thorough
def test_a_shorter_run_of_the_default_finds_every_mode_of_the_ring():
    run = made(DEFAULT, "game.lr.over=3000", "game.lr_critic.over=3000", "run.steps=3000", "run.ema=0.99")
    take(run, 3000)
    found = run.task.coverage(run.sources["image"])
    assert found.modes == 8
    assert found.high_quality > 0.5
