"""Single steps of runs under optimisers of games: clipping, variance reduction, penalties, path lengths."""

import pytest
import torch

from fastgan.backends import backend
from fastgan.data import Images, load
from fastgan.games import GAMES
from fastgan.losses import LOSSES
from fastgan.losses.began_loss import next_k
from tests.train.steps import begin, begun, gradients, networks, recipe_of, watched

pytestmark = pytest.mark.usefixtures("one_thread")
FIRST_ORDER = [name for name, kind in GAMES.items() if not kind.second_order]


@pytest.fixture
def made(monkeypatch):
    """Makes a run on 20 images, two batches of 8; every one of the same settings is the same."""
    few = Images("few", load("digits", 8, 1).pixels[:20])
    monkeypatch.setattr("fastgan.recipes.data.load", lambda *_: few)

    def make(name="digits-resnet", **settings):
        return begun(recipe_of(name, **{"batch_size": 8, "penalty": "", **settings}))

    return make


def largest(tensors):
    return max(t.abs().max().item() for t in tensors)


@pytest.mark.parametrize("game", [*GAMES, "lookahead:2:0.5", "alternating:2"])
def test_weights_are_within_the_limit_after_every_step(game, made):
    settings = {"follow-the-ridge": "follow-the-ridge:1:1e-3:3", "competitive": "competitive:1e-3:3"}
    run = made(game=settings.get(game, game), clip_weights=0.01, loss="wasserstein", lr_critic=0.1)
    critic = networks(run)[1]
    for _ in range(4):
        next(run)
        assert largest(critic.parameters()) <= 0.01
    if game == "lookahead:2:0.5":
        next(run)
        assert largest(run.game.memory["slow"][: len(run.game.critic.parameters)]) <= 0.01


def test_the_direction_at_a_snapshot_is_the_full_mean(made):
    """The critic of digits-dcgan adds noise: the batch's terms must be of the same noise to cancel."""
    run = made("digits-dcgan", game="variance-reduced", penalty="wgan-gp:1")
    seen = watched(run)
    next(run)
    for along, mean in zip(seen["critic"][0] + seen["generator"][0], run.game.memory["mean"], strict=True):
        torch.testing.assert_close(along, mean, rtol=1e-5, atol=1e-5)
    assert largest(run.game.memory["mean"]) > 1e-3


def test_noise_in_the_critic_is_that_of_the_first_call(made):
    """Where nothing moves, all four slopes are of the same losses."""
    run = made("digits-dcgan", game="runge-kutta:4", instance_noise=0.3)
    watched(run)
    for player in run.game.players:
        player.optimizer.param_groups[0]["lr"] = 0.0
    found, differentiate = [], run.game.differentiate
    run.game.differentiate = lambda *asked: found.append(differentiate(*asked)) or found[-1]
    begin(run)
    run.game.step(run.engine)
    for values in zip(*found, strict=True):
        assert len(values) == 4
        assert len({value.item() for value in values}) == 1


def test_variance_reduction_tells_the_losses_where_its_step_begins(made):
    """Those of BEGAN, whose k follows them."""
    run, twin = (made(game="variance-reduced", loss="began", lr=0.01) for _ in range(2))
    for each in (run, twin):
        next(each)
        each.task.loss_k.fill_(0.5)
    begin(twin)
    batch = twin.engine.batch()  # the snapshot is behind
    generator, critic = networks(twin)
    torch.manual_seed(batch.key)
    fake = generator(batch.tensors["latent"])
    real_errors, fake_errors = critic(batch.tensors["image"]), critic(fake)
    loss = twin.task.loss
    loss.state["k"] = torch.tensor(0.5)
    expected = loss.critic(real_errors, fake_errors)
    taken = next(run)
    torch.testing.assert_close(taken.losses.critic, expected.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(taken.log["critic"], expected.detach(), rtol=1e-5, atol=1e-6)
    k = next_k(torch.tensor(0.5), loss.gamma, loss.lambda_k, real_errors.detach(), fake_errors.detach())
    torch.testing.assert_close(run.task.loss_k, k, rtol=1e-6, atol=1e-7)
    assert k != 0.5


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_the_gradient_where_a_step_begins_has_the_penalties(name, made):
    """Against autograd on the critic's whole loss: of the batch, or of all where that is the snapshot's mean."""
    still = {"lr": 1e-30, "lr_critic": 1e-30}  # some move without their optimisers
    run, twin = (made(game=name, loss="least_squares", penalty="r1:2,r2:3", **still) for _ in range(2))
    seen = watched(run)
    next(run)
    batches = list(twin.engine.epoch()) if name == "variance-reduced" else [twin.engine.batch()]
    total = sum(penalised(twin, batch, r1=2, r2=3)[0] / len(batches) for batch in batches)
    expected = torch.autograd.grad(total, list(twin.task.critics.parameters()))
    assert_same(seen["critic"][0], expected)


def test_consensus_descends_along_the_pull_of_penalties_too(made):
    """Against the gradient of 1/2 ||v||^2 by autograd on the whole; the points of the penalties are constants."""
    run, twin = (made(game="consensus:0.1", loss="least_squares", penalty="r1:2,r2:3") for _ in range(2))
    seen = watched(run)
    next(run)
    x, y = list(twin.task.critics.parameters()), list(twin.task.generators.parameters())
    critic, generator = penalised(twin, twin.engine.batch(), r1=2, r2=3)
    v = torch.autograd.grad(critic, x, create_graph=True) + torch.autograd.grad(generator, y, create_graph=True)
    pull = torch.autograd.grad(sum(g.square().sum() for g in v) / 2, x + y)
    assert_same(seen["critic"][0] + seen["generator"][0], [g + 0.1 * p for g, p in zip(v, pull, strict=True)])


def penalised(run, batch, r1, r2):
    """Both players' losses, the critic's with its penalties, differentiable as often as one likes."""
    loss, (generator, critic) = LOSSES["least_squares"], networks(run)
    images, samples = batch.tensors["image"], generator(batch.tensors["latent"])
    real_logits, fake_logits = critic(images), critic(samples)
    total = loss.critic(real_logits, fake_logits)
    for points, gamma in ((images, r1), (samples.detach(), r2)):
        at = points.clone().requires_grad_()
        with backend("reference"):
            (slope,) = torch.autograd.grad(critic(at).sum(), at, create_graph=True)
        total = total + gamma / 2 * slope.square().sum((1, 2, 3)).mean()
    return total, loss.generator(fake_logits, None)


def assert_same(found, expected):
    for ours, truth in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, truth.detach(), rtol=1e-3, atol=1e-4 * truth.abs().max().item())


def test_path_lengths_of_one_step_are_of_the_same_latents_and_move_the_mean_once(made):
    chosen = {"channels": 1, "resolution": 8, "path_length": 2.0, "path_length_every": 1, "penalty_every": 1}
    run, once = (made("stylegan2-small", **chosen, batch_size=4, game="runge-kutta:4", lr=1e-30, lr_critic=1e-30)
                 for _ in range(2))  # fmt: skip
    seen = watched(run)
    next(run)
    expected, _ = gradients(once, "generator", once.engine.batch())
    torch.testing.assert_close(run.task.path_length_mean, once.engine.log["path_length_mean"])
    assert run.task.path_length_mean > 0
    # All four slopes are the same, and the step along their weighted mean is along that.
    for ours, truth in zip(seen["generator"][0], expected, strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-4, atol=1e-6)
