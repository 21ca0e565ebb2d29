"""The methods on networks: what stays unchanged, what is resumed, what is refused."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam

import fastgan
from fastgan.games import GAMES, Consensus, Lookahead, parse
from fastgan.losses import nonsaturating
from fastgan.penalties import R1, R2, differentiable_critic_loss
from tests.games.games import engine_of

EVERY = pytest.mark.parametrize("kind", GAMES.values(), ids=GAMES)


class Pair:
    """A critic and a generator of points in the plane, and closures over one batch."""

    def __init__(self, generator, dtype=torch.float64, **adam):
        self.critic = nn.Sequential(nn.Linear(2, 8), nn.Softplus(), nn.Linear(8, 1)).to(dtype)
        self.generator = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)).to(dtype)
        self.real = torch.randn(16, 2, generator=generator, dtype=dtype)
        self.z = torch.randn(16, 3, generator=generator, dtype=dtype)

    def critic_loss(self):
        return nonsaturating.critic(self.critic(self.real), self.critic(self.generator(self.z)))

    def generator_loss(self):
        return nonsaturating.generator(self.critic(self.generator(self.z)), None)

    def game(self, kind, **settings):
        optimizer = SGD if kind.plain else Adam
        return kind(
            optimizer(self.critic.parameters(), lr=0.01), optimizer(self.generator.parameters(), lr=0.01), **settings
        )

    def step(self, game):
        return game.step(engine_of(game, self.critic_loss, self.generator_loss))

    def weights(self):
        return [p.detach().clone() for network in (self.critic, self.generator) for p in network.parameters()]


@pytest.fixture
def pair(generator):
    return Pair(generator)


@EVERY
def test_both_players_move_and_their_losses_are_told(kind, pair):
    expected = pair.critic_loss(), pair.generator_loss()
    before = pair.weights()
    losses = pair.step(pair.game(kind))
    assert all((a != b).any() for a, b in zip(before, pair.weights(), strict=True))
    torch.testing.assert_close(losses.critic, expected[0].detach())
    if kind.name != "alternating" and kind.name != "lookahead":
        torch.testing.assert_close(losses.generator, expected[1].detach())
    assert not losses.critic.requires_grad
    assert all(p.requires_grad for network in (pair.critic, pair.generator) for p in network.parameters())


@EVERY
def test_a_game_goes_on_where_its_state_was_taken(kind, pair):
    game = pair.game(kind)
    for _ in range(3):
        pair.step(game)
    twin = copy.deepcopy(pair)
    resumed = twin.game(kind)
    resumed.load_state_dict(copy.deepcopy(game.state_dict()))
    for _ in range(3):
        pair.step(game)
        twin.step(resumed)
    for ours, theirs in zip(pair.weights(), twin.weights(), strict=True):
        assert torch.equal(ours, theirs)


# The system that follow-the-ridge solves amplifies rounding without a bound.
@pytest.mark.parametrize("kind", [kind for name, kind in GAMES.items() if name != "follow-the-ridge"])
def test_bfloat16_autocast_inside_the_closures(kind, generator):
    pair = Pair(generator, torch.float32)
    start, twin = torch.cat([w.flatten() for w in pair.weights()]), copy.deepcopy(pair)

    def in_half(closure):
        with torch.autocast("cpu", torch.bfloat16):
            return closure()

    moves = []
    for each, wrapped in ((pair, in_half), (twin, lambda closure: closure())):
        losses = each.critic_loss, each.generator_loss
        each.critic_loss, each.generator_loss = (lambda loss=loss, w=wrapped: w(loss) for loss in losses)
        each.step(kind(*(SGD(p.parameters(), lr=0.01) for p in (each.critic, each.generator))))
        moves.append(torch.cat([w.flatten() for w in each.weights()]) - start)
    half, single = moves
    assert (half - single).norm() <= 0.05 * single.norm()  # some steps of 2^-8 each


@pytest.mark.parametrize("name", ["simultaneous", "alternating", "extragradient", "optimistic", "runge-kutta"])
def test_first_order_methods_hold_the_opponent_constant(name, pair):
    """No gradient of the generator is computed for the critic's loss, and none of the critic for the generator's."""
    needed = []

    def critic():
        needed.append([p.requires_grad for p in pair.generator.parameters()])
        return pair.critic_loss()

    def generator():
        needed.append([p.requires_grad for p in pair.critic.parameters()])
        return pair.generator_loss()

    game = pair.game(GAMES[name])
    game.step(engine_of(game, critic, generator))
    assert len(needed) >= 2
    assert not any(any(flags) for flags in needed)


def test_the_critics_penalties_in_one_pass(generator):
    """`critic_loss` is a closure of methods of first order: the same step as by double backward."""
    after = []
    for method in ("one_pass", "double_backward"):
        torch.manual_seed(0)
        pair = Pair(generator.manual_seed(7))
        pair.critic = nn.Sequential(nn.Linear(2, 8), nn.LeakyReLU(), nn.Linear(8, 1)).double()

        def critic(pair=pair, method=method):
            fake = pair.generator(pair.z)
            return fastgan.critic_loss(pair.critic, pair.real, fake, penalties=(R1(1.0), R2(1.0)), method=method)

        game = pair.game(GAMES["extragradient"])
        for _ in range(3):
            game.step(engine_of(game, critic, pair.generator_loss))
        after.append(pair.weights())
    for one, other in zip(*after, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def test_consensus_with_a_penalty(pair):
    """`differentiable_critic_loss` is a closure of methods of second order, which differentiate its slope once more."""
    x, y = (list(network.parameters()) for network in (pair.critic, pair.generator))

    def critic():
        fake = pair.generator(pair.z)
        return differentiable_critic_loss(pair.critic, pair.real, fake, nonsaturating, (R1(3.0),))

    at = pair.real.clone().requires_grad_()
    (slope,) = torch.autograd.grad(pair.critic(at).sum(), at, create_graph=True)
    whole = pair.critic_loss() + 3 / 2 * slope.square().sum(1).mean()
    v = torch.autograd.grad(whole, x, create_graph=True) + torch.autograd.grad(
        pair.generator_loss(), y, create_graph=True
    )
    pull = torch.autograd.grad(sum(g.square().sum() for g in v) / 2, x + y)
    expected = [p.detach() - 0.1 * (g + 0.2 * h).detach() for p, g, h in zip(x + y, v, pull, strict=True)]
    game = Consensus(SGD(x, lr=0.1), SGD(y, lr=0.1), 0.2)
    game.step(engine_of(game, critic, pair.generator_loss))
    for ours, truth in zip(pair.weights(), expected, strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", [name for name, kind in GAMES.items() if kind.second_order])
def test_detached_samples_are_refused_where_they_matter(name, pair):
    def critic():
        return nonsaturating.critic(pair.critic(pair.real), pair.critic(pair.generator(pair.z).detach()))

    game = pair.game(GAMES[name])
    with pytest.raises(ValueError, match="loss of the critic does not depend on the generator's parameters"):
        game.step(engine_of(game, critic, pair.generator_loss))


def test_closures_that_return_no_loss(pair):
    game = pair.game(GAMES["simultaneous"])
    for closure, error, message in (
        (lambda: 3.0, TypeError, "closure of the critic returned float, expected a scalar tensor"),
        (lambda: pair.critic(pair.real), ValueError, r"returned shape \[16, 1\], expected a scalar"),
        (lambda: torch.zeros([]), ValueError, "returned a constant, expected a loss that depends on its parameters"),
    ):
        with pytest.raises(error, match=message):
            game.step(engine_of(game, closure, pair.generator_loss))
    assert all(p.requires_grad for p in pair.generator.parameters())


def test_optimizers_are_checked(pair):
    sgd = SGD(pair.critic.parameters(), lr=0.1)
    with pytest.raises(TypeError, match=r"critic is list, expected a torch\.optim\.Optimizer"):
        GAMES["simultaneous"](list(pair.critic.parameters()), sgd)
    for wrong in (Adam(pair.critic.parameters()), SGD(pair.critic.parameters(), lr=0.1, momentum=0.9)):
        with pytest.raises(TypeError, match="expected SGD without momentum"):
            GAMES["competitive"](wrong, SGD(pair.generator.parameters(), lr=0.1))
    frozen = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(ValueError, match="none of the optimizer's parameters requires a gradient"):
        GAMES["simultaneous"](sgd, SGD(frozen.parameters(), lr=0.1))
    shared = SGD([*pair.generator.parameters(), *pair.critic[0].parameters()], lr=0.1)
    with pytest.raises(ValueError, match="one of its parameters is the critic's too"):
        GAMES["simultaneous"](sgd, shared)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("alternating", {"critic_steps": 0}, "critic_steps is 0, expected an integer of at least 1"),
        ("alternating", {"critic_steps": 1.5}, "critic_steps is 1.5, expected an integer"),
        ("alternating", {"critic_steps": float("nan")}, "critic_steps is nan, expected an integer of at least 1"),
        ("lookahead", {"k": float("inf")}, "k is inf, expected an integer of at least 1"),
        ("lookahead", {"k": 0}, "k is 0, expected an integer of at least 1"),
        ("lookahead", {"alpha": 1.5}, "alpha is 1.5, expected a number of at least 0 and at most 1"),
        ("lookahead", {"alpha": 0.0}, "alpha is 0.0, expected a number above 0"),
        ("consensus", {"gamma": -1}, "gamma is -1, expected a number of at least 0"),
        ("symplectic", {"strength": float("nan")}, "strength is nan"),
        ("symplectic", {"align": 7.0}, "align is 7.0, expected 0 or 1"),
        ("competitive", {"max_iterations": 0}, "max_iterations is 0"),
        ("follow-the-ridge", {"damping": -1.0}, "damping is -1.0"),
        ("runge-kutta", {"order": 3}, "order is 3, expected one of 2, 4"),
        ("runge-kutta", {"weight": -1.0}, "weight is -1.0"),
    ],
)
def test_settings_are_checked(name, settings, message, pair):
    with pytest.raises(ValueError, match=message):
        pair.game(GAMES[name], **settings)


def test_names_and_their_settings(pair):
    assert all(name == kind.name for name, kind in GAMES.items())
    assert all("arXiv:" in kind.paper and kind.paper.split(", ")[-1] in kind.__doc__ for kind in GAMES.values())
    optimizers = SGD(pair.critic.parameters(), lr=0.1), SGD(pair.generator.parameters(), lr=0.1)
    assert parse("consensus:3")(*optimizers).gamma == 3
    lookahead = parse("lookahead:6:0.25")(*optimizers)
    assert isinstance(lookahead, Lookahead)
    assert (lookahead.k, lookahead.alpha) == (6, 0.25)
    assert parse("runge-kutta:4")(*optimizers).weight == 0
    for text, message in (
        ("sgd", "'sgd', expected one of alternating, simultaneous"),
        ("consensus:many", "expected numbers after the name: consensus:gamma"),
        ("consensus:1:2", "has 2 settings, expected at most 1: consensus:gamma"),
    ):
        with pytest.raises(ValueError, match=message):
            parse(text)
