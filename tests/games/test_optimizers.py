"""Settings of torch's optimisers besides gradients: decay, maximize, frozen and unused parameters."""

import pytest
import torch
from torch import nn, optim

from fastgan.games import GAMES, Consensus, Extragradient, VarianceReducedExtragradient
from tests.games.games import engine_of
from tests.games.test_networks import EVERY, Pair

COUPLED = {
    "SGD": (optim.SGD, {}),
    "SGD, Nesterov": (optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "Adam": (optim.Adam, {}),
    "Adam, fused": (optim.Adam, {"fused": True}),
    "Adam, foreach, amsgrad": (optim.Adam, {"foreach": True, "amsgrad": True}),
    "NAdam": (optim.NAdam, {}),
    "RAdam": (optim.RAdam, {}),
    "Adamax": (optim.Adamax, {}),
    "Adadelta": (optim.Adadelta, {}),
    "Adagrad": (optim.Adagrad, {}),
    "RMSprop": (optim.RMSprop, {"momentum": 0.5, "centered": True}),
    "ASGD": (optim.ASGD, {}),
}
"""Optimisers that add weight decay to the gradient, which is that of an L2 term, and what they are made with."""
RATES, DECAYS = (0.02, 0.05), (0.3, 0.7)
"""Of the two param groups of a player."""


def groups(network, decays):
    """The parameters of a network's two linear layers as param groups."""
    first, _, second = network
    return [
        {"params": list(layer.parameters()), "lr": lr, "weight_decay": decay}
        for layer, lr, decay in zip((first, second), RATES, decays, strict=True)
    ]


def l2(network):
    first, _, second = network
    squares = [sum(p.square().sum() for p in layer.parameters()) for layer in (first, second)]
    return sum(decay / 2 * square for decay, square in zip(DECAYS, squares, strict=True))


class Explicit(Pair):
    """A pair of players whose closures have the L2 terms."""

    def critic_loss(self):
        return super().critic_loss() + l2(self.critic)

    def generator_loss(self):
        return super().generator_loss() + l2(self.generator)


class Negated(Pair):
    """What players maximise in the place of what they minimise."""

    def critic_loss(self):
        return -super().critic_loss()

    def generator_loss(self):
        return -super().generator_loss()


def play(pair, kind, made, decays, steps=2, **settings):
    """The weights after some steps of the game, in one vector."""
    make, usual = made
    game = kind(*(make(groups(network, decays), **usual, **settings) for network in (pair.critic, pair.generator)))
    for _ in range(steps):
        pair.step(game)
    return torch.cat([w.flatten() for w in pair.weights()])


def pair_of(kind, seed):
    torch.manual_seed(seed)
    return kind(torch.Generator().manual_seed(seed))


def optimizers_of(kind):
    return {"SGD": COUPLED["SGD"]} if kind.plain else COUPLED


CASES = [(kind, name) for kind in GAMES.values() for name in optimizers_of(kind)]
EVERY_CASE = pytest.mark.parametrize(("kind", "name"), CASES, ids=[f"{k.name}-{n}" for k, n in CASES])


@EVERY_CASE
def test_weight_decay_is_an_l2_term_in_the_closures(kind, name, seed):
    start = torch.cat([w.flatten() for w in pair_of(Pair, seed).weights()])
    found = play(pair_of(Pair, seed), kind, COUPLED[name], DECAYS)
    expected = play(pair_of(Explicit, seed), kind, COUPLED[name], (0, 0))
    assert (found - expected).norm() <= 1e-7 * (expected - start).norm()


@EVERY_CASE
def test_what_is_maximised_is_the_negative_minimised(kind, name, seed):
    start = torch.cat([w.flatten() for w in pair_of(Pair, seed).weights()])
    found = play(pair_of(Negated, seed), kind, COUPLED[name], DECAYS, maximize=True)
    expected = play(pair_of(Pair, seed), kind, COUPLED[name], DECAYS)
    assert (found - expected).norm() <= 1e-7 * (expected - start).norm()


@pytest.mark.parametrize("name", COUPLED)
def test_alternating_descent_is_the_loop_that_people_write(name, seed):
    """Bit for bit, with decay: zero_grad, backward, step of the one, then of the other."""
    found = play(pair_of(Pair, seed), GAMES["alternating"], COUPLED[name], DECAYS)
    make, usual = COUPLED[name]
    pair = pair_of(Pair, seed)
    critic, generator = (make(groups(network, DECAYS), **usual) for network in (pair.critic, pair.generator))
    for _ in range(2):
        for optimizer, loss in ((critic, pair.critic_loss), (generator, pair.generator_loss)):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
    assert torch.equal(found, torch.cat([w.flatten() for w in pair.weights()]))


DECOUPLED = {
    "AdamW": (optim.AdamW, {}),
    "Adam": (optim.Adam, {"decoupled_weight_decay": True}),
    "NAdam": (optim.NAdam, {"decoupled_weight_decay": True}),
    "RAdam": (optim.RAdam, {"decoupled_weight_decay": True}),
}


@pytest.mark.parametrize("name", DECOUPLED)
def test_decoupled_decay_takes_its_share_of_the_point_that_moves(name, seed):
    """Extragradient: (1 - lr decay) w - the step along v(w'), whose look ahead decayed as well; by loops by hand."""
    found = play(pair_of(Pair, seed), Extragradient, DECOUPLED[name], DECAYS)
    make, usual = DECOUPLED[name]
    pair = pair_of(Pair, seed)
    players = [(n, make(groups(n, (0, 0)), **usual)) for n in (pair.critic, pair.generator)]
    parameters = [p for network, _ in players for p in network.parameters()]

    def gradients():
        of_critic = torch.autograd.grad(pair.critic_loss(), list(pair.critic.parameters()))
        return [*of_critic, *torch.autograd.grad(pair.generator_loss(), list(pair.generator.parameters()))]

    def move(along):
        for p, g in zip(parameters, along, strict=True):
            p.grad = g
        for _, optimizer in players:
            for group, lr, decay in zip(optimizer.param_groups, RATES, DECAYS, strict=True):
                for p in group["params"]:
                    p.data.mul_(1 - lr * decay)
            optimizer.step()

    for _ in range(2):
        start = [p.detach().clone() for p in parameters]
        move(gradients())
        ahead = gradients()
        for p, place in zip(parameters, start, strict=True):
            p.data.copy_(place)
        move(ahead)
    torch.testing.assert_close(found, torch.cat([w.flatten() for w in pair.weights()]), rtol=1e-12, atol=1e-12)


class Stranger(optim.Optimizer):
    """An optimiser whose kind of decay nobody can know."""

    def __init__(self, params):
        super().__init__(params, {"lr": 0.1, "weight_decay": 0.2})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(p.grad.sign(), alpha=group["lr"])


@pytest.mark.parametrize("name", [name for name, kind in GAMES.items() if not kind.plain])
def test_a_decay_of_an_unknown_kind_is_refused_where_it_matters(name, seed):
    pair = pair_of(Pair, seed)
    game = GAMES[name](Stranger(pair.critic.parameters()), Stranger(pair.generator.parameters()))
    if name in ("alternating", "simultaneous", "optimistic", "lookahead"):  # they step where the gradient was taken
        pair.step(game)
        return
    with pytest.raises(TypeError, match=r"critic: the optimizer is Stranger with weight_decay 0\.2, expected one"):
        pair.step(game)
    for player in game.players:
        player.optimizer.param_groups[0]["weight_decay"] = 0
    pair.step(game)


@EVERY
def test_a_parameter_frozen_after_some_steps_stays(kind, seed):
    pair = pair_of(Pair, seed)
    game = pair.game(kind)
    pair.step(game)
    pair.critic[0].requires_grad_(False)
    game.memory.clear()
    before = pair.critic[0].weight.clone()
    pair.step(game)
    assert torch.equal(pair.critic[0].weight, before)


@pytest.mark.parametrize("name", ["alternating", "extragradient", "optimistic", "consensus", "symplectic"])
def test_a_parameter_that_no_loss_depends_on_any_more_stays(name, seed):
    """Neither moments nor decay move it, as they do not without a `.grad`."""
    pair = pair_of(Pair, seed)
    used, other = nn.Linear(2, 1).double(), nn.Linear(2, 1).double()
    pair.critic = nn.ModuleList([used, other])
    branch = [used, other]
    pair.critic_loss = lambda: (branch[0](pair.real) - branch[0](pair.generator(pair.z))).square().mean()
    pair.generator_loss = lambda: branch[0](pair.generator(pair.z)).square().mean()
    game = GAMES[name](*(optim.Adam(n.parameters(), 0.1, weight_decay=0.3) for n in (pair.critic, pair.generator)))
    for at_work in (used, other):
        branch[0] = at_work
        pair.step(game)
        game.memory.clear()  # of the last update, which belongs to both
    before = used.weight.clone()
    pair.step(game)
    assert torch.equal(used.weight, before)
    assert (other.weight != 0).all()


def test_maximize_in_a_part_of_a_player(seed):
    pair = pair_of(Pair, seed)
    mixed = optim.SGD(
        [{"params": pair.critic[0].parameters(), "maximize": True}, {"params": pair.critic[2].parameters()}]
    )
    other = optim.SGD(pair.generator.parameters())
    with pytest.raises(TypeError, match="critic: maximize is set in some of the optimizer's param groups, expected"):
        pair.step(Consensus(mixed, other))
    pair.step(Extragradient(mixed, other))


def test_an_optimizer_that_calls_a_closure_is_refused(seed):
    pair = pair_of(Pair, seed)
    with pytest.raises(TypeError, match="critic is LBFGS, whose step calls a closure of its own, expected"):
        GAMES["alternating"](optim.LBFGS(pair.critic.parameters()), optim.SGD(pair.generator.parameters()))


@pytest.mark.parametrize("name", [name for name, kind in GAMES.items() if kind.plain])
def test_a_group_with_momentum_that_comes_later_is_refused(name, seed):
    pair = pair_of(Pair, seed)
    first, _, last = pair.critic
    game = GAMES[name](optim.SGD(first.parameters(), 0.1), optim.SGD(pair.generator.parameters(), 0.1))
    pair.step(game)
    game.critic.optimizer.add_param_group({"params": list(last.parameters()), "momentum": 0.9})
    before = pair.weights()
    with pytest.raises(TypeError, match="expected SGD without momentum"):
        pair.step(game)
    assert all(torch.equal(a, b) for a, b in zip(before, pair.weights(), strict=True))


def test_decay_that_follows_a_schedule_between_snapshots(seed):
    """The snapshot's mean gradient is the losses': what decay adds is that of now."""
    results = []
    for kind, decays in ((Pair, DECAYS), (Explicit, (0, 0))):
        pair = pair_of(kind, seed)
        game = VarianceReducedExtragradient(*(optim.SGD(groups(n, (0, 0))) for n in (pair.critic, pair.generator)))
        game.snapshot(engine_of(game, pair.critic_loss, pair.generator_loss))
        for player in game.players:
            for group, decay in zip(player.optimizer.param_groups, decays, strict=True):
                group["weight_decay"] = decay
        for _ in range(2):
            game.step(engine_of(game, pair.critic_loss, pair.generator_loss))
        results.append(torch.cat([w.flatten() for w in pair.weights()]))
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-12)
