"""Single steps of runs under optimisers of games: clipping, variance reduction, penalties, path lengths."""

import pytest
import torch

from fastgan.backends import backend
from fastgan.data import Images, load
from fastgan.errors import UserError
from fastgan.games import GAMES
from fastgan.losses import LOSSES
from fastgan.losses.began_loss import next_k
from fastgan.penalties import parse
from fastgan.train import TrainConfig
from fastgan.train.closures import Closures, critic_objective
from fastgan.train.regularisation import NO_REGULARISATION, Regularisation
from fastgan.train.state import TrainState
from fastgan.train.step import train_step

FIRST_ORDER = [name for name, kind in GAMES.items() if not kind.second_order]


@pytest.fixture
def state(tmp_path):
    """Makes the state of a run on 20 images, two batches of 8."""
    digits = load("digits", 8, 1)
    few = Images("few", digits.pixels[:20])

    def make(preset="digits-resnet", **changes):
        settings = {"batch_size": 8, "device": "cpu", "penalty": "none", **changes}
        return TrainState(TrainConfig.for_preset(preset, tmp_path / "run", **settings), few, torch.device("cpu"))

    return make


def watched(made):
    """The gradients along which each player's optimiser is to step; nothing moves."""
    seen = {}
    for player in made.game.players:
        player.optimizer.param_groups[0]["lr"] = 0.0
        seen[player.who] = found = []
        player.optimizer.step = lambda p=player, found=found: found.append([q.grad.clone() for q in p.parameters])
    return seen


def largest(tensors):
    return max(t.abs().max().item() for t in tensors)


@pytest.mark.parametrize("optimizer", [*GAMES, "lookahead:2:0.5", "alternating:2"])
def test_weights_are_within_the_limit_after_every_step(optimizer, state):
    settings = {"follow-the-ridge": "follow-the-ridge:1:1e-3:3", "competitive": "competitive:1e-3:3"}
    made = state(optimizer=settings.get(optimizer, optimizer), clip_weights=0.01, loss="wasserstein", lr_critic=0.1)
    for _ in range(4):
        train_step(made)
        assert largest(made.critic.parameters()) <= 0.01
    if optimizer == "lookahead:2:0.5":
        train_step(made)
        assert largest(made.game.memory["slow"][: len(made.game.critic.parameters)]) <= 0.01


def test_the_direction_at_a_snapshot_is_the_full_mean(state):
    """The critic of digits-dcgan adds noise: the batch's terms must be of the same noise to cancel."""
    made = state("digits-dcgan", optimizer="variance-reduced", penalty="wgan-gp:1")
    seen = watched(made)
    torch.manual_seed(4)
    train_step(made, Regularisation(parse("wgan-gp:1")))
    for along, mean in zip(seen["critic"][0] + seen["generator"][0], made.game.memory["mean"], strict=True):
        torch.testing.assert_close(along, mean, rtol=1e-5, atol=1e-5)
    assert largest(made.game.memory["mean"]) > 1e-3


def test_noise_in_the_critic_is_that_of_the_first_call(state):
    """Where nothing moves, all four slopes are of the same losses; the streams go on as after one call of each."""
    made, once = (state("digits-dcgan", optimizer="runge-kutta:4", instance_noise=0.3) for _ in range(2))
    watched(made)
    losses = {player.who: [] for player in made.game.players}
    for player in made.game.players:
        checked = player.loss
        player.loss = lambda closure, c=checked, kept=losses[player.who]: kept.append(c(closure)) or kept[-1]
    torch.manual_seed(4)
    train_step(made)
    after = torch.get_rng_state()
    for values in losses.values():
        assert len(values) == 4
        assert len({value.item() for value in values}) == 1
    torch.manual_seed(4)
    closures = Closures(once, NO_REGULARISATION)
    closures.critic(), closures.generator()
    assert torch.equal(torch.get_rng_state(), after)


def test_variance_reduction_tells_the_losses_where_its_step_begins(state):
    """Those of BEGAN, whose k follows them."""
    made, twin = (state("digits-resnet", optimizer="variance-reduced", loss="began", lr=0.01) for _ in range(2))
    for each in (made, twin):
        torch.manual_seed(4)
        train_step(each)
        each.loss.state["k"] = torch.tensor(0.5)
    assert not made.epoch_begins  # the snapshot is behind
    torch.manual_seed(5)
    images, latents = twin.next_batch().images, twin.next_latents()
    expected = critic_objective(twin, twin.loss, images, latents)[1]
    generator = twin.loss.generator(twin.critic(twin.generator(latents)), None)
    torch.manual_seed(5)
    taken = train_step(made)
    assert torch.equal(taken.losses["critic"], expected.losses["critic"])
    torch.testing.assert_close(taken.losses["generator"], generator.detach(), rtol=1e-5, atol=1e-6)
    k = next_k(twin.loss.k, twin.loss.gamma, twin.loss.lambda_k, *expected.outputs)
    assert torch.equal(made.loss.k, k)
    assert k != 0.5


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_the_gradient_where_a_step_begins_has_the_penalties(name, state):
    """Against autograd on the critic's whole loss: of the batch, or of all where that is the snapshot's mean."""
    made, twin = (state(optimizer=name, loss="least_squares") for _ in range(2))
    seen = watched(made)
    train_step(made, Regularisation(parse("r1:2,r2:3")))
    batches = list(twin.every_batch()) if name == "variance-reduced" else [twin.next_batch()]
    total = 0
    for batch in batches:
        total = total + penalised(twin, batch.images, twin.next_latents(), r1=2, r2=3)[0] / len(batches)
    expected = torch.autograd.grad(total, list(twin.critic.parameters()))
    assert_same(seen["critic"][0], expected)


def test_consensus_descends_along_the_pull_of_penalties_too(state):
    """Against the gradient of 1/2 ||v||^2 by autograd on the whole; the points of the penalties are constants."""
    made, twin = (state(optimizer="consensus:0.1", loss="least_squares") for _ in range(2))
    seen = watched(made)
    train_step(made, Regularisation(parse("r1:2,r2:3")))
    x, y = list(twin.critic.parameters()), list(twin.generator.parameters())
    critic, generator = penalised(twin, twin.next_batch().images, twin.next_latents(), r1=2, r2=3)
    v = torch.autograd.grad(critic, x, create_graph=True) + torch.autograd.grad(generator, y, create_graph=True)
    pull = torch.autograd.grad(sum(g.square().sum() for g in v) / 2, x + y)
    assert_same(seen["critic"][0] + seen["generator"][0], [g + 0.1 * p for g, p in zip(v, pull, strict=True)])


def penalised(made, images, latents, r1, r2):
    """Both players' losses, the critic's with its penalties, differentiable as often as one likes."""
    loss = LOSSES["least_squares"]
    samples = made.generator(latents)
    real_logits, fake_logits = made.critic(images), made.critic(samples)
    total = loss.critic(real_logits, fake_logits)
    for points, gamma in ((images, r1), (samples.detach(), r2)):
        at = points.clone().requires_grad_()
        with backend("reference"):
            (slope,) = torch.autograd.grad(made.critic(at).sum(), at, create_graph=True)
        total = total + gamma / 2 * slope.square().sum((1, 2, 3)).mean()
    return total, loss.generator(fake_logits, None)


def assert_same(found, expected):
    for ours, truth in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, truth.detach(), rtol=1e-3, atol=1e-4 * truth.abs().max().item())


def test_path_lengths_of_one_step_are_of_the_same_latents_and_move_the_mean_once(state):
    chosen = {"preset": "stylegan2-small", "channels": 1, "resolution": "8", "path_length": 2.0, "path_length_every": 1}
    made, once = (state(**chosen, batch_size=4, optimizer="runge-kutta:4") for _ in range(2))
    regularisation = Regularisation(path_length=2.0)
    seen = watched(made)
    for each in (made, once):
        torch.manual_seed(4)
        if each is made:
            train_step(made, regularisation)
        else:
            closures = Closures(once, regularisation)
            closures.critic()
            closures.generator().backward()
    assert torch.equal(made.path_length, once.path_length)
    assert torch.equal(made._latents.get_state(), once._latents.get_state())
    # All four slopes are the same, and the step along their weighted mean is along that.
    for ours, truth in zip(seen["generator"][0], [p.grad for p in once.generator.parameters()], strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-4, atol=1e-6)


def test_variance_reduction_takes_every_regulariser_in_every_step(tmp_path):
    def config(preset, **changes):
        return TrainConfig.for_preset(preset, tmp_path / "run", optimizer="variance-reduced", **changes)

    with pytest.raises(UserError, match="--penalty-every is 4, expected 1: variance-reduced keeps one step's mean"):
        config("digits-resnet", penalty="r1:1", penalty_every=4)
    with pytest.raises(UserError, match=r"--path-length-every is 4, expected 1: .* 4-fold, or not at all"):
        config("stylegan2-small", path_length=2.0, penalty_every=1)
    config("stylegan2-small", path_length=2.0, path_length_every=1, penalty_every=1)
