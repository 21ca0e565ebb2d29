"""Players whose parameters change, lie elsewhere, have sparse gradients or several learning rates."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam

from fastgan.games import GAMES, Extragradient, Optimistic, PastExtragradient, RungeKutta, VarianceReducedExtragradient
from fastgan.losses import nonsaturating
from tests.games.games import engine_of, random_quadratic, step_matrix
from tests.games.test_linear import ONE_STEP
from tests.games.test_networks import EVERY, Pair

PER_NUMBER = [0.11, 0.11, 0.03, 0.03, 0.07, 0.19, 0.19]
"""The rates of the four and three numbers of a quadratic game, whose players have two tensors each."""


@pytest.fixture
def pair(generator):
    return Pair(generator)


@pytest.fixture
def rng(seed):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", ONE_STEP)
def test_groups_with_learning_rates_of_their_own(name, rng):
    made, expected = ONE_STEP[name]
    q = random_quadratic(rng)

    def game():
        found = made(q)()
        for player, rates in ((found.critic, (0.11, 0.03)), (found.generator, (0.07, 0.19))):
            (group,) = player.optimizer.param_groups
            first, second = group["params"]
            group["params"], group["lr"] = [first], rates[0]
            player.optimizer.add_param_group({"params": [second], "lr": rates[1]})
        return found

    np.testing.assert_allclose(step_matrix(game, q), expected(q, np.diag(PER_NUMBER)), rtol=0, atol=1e-9)


def test_parameters_added_later_are_the_players_too(pair):
    """Constant to the opponent, moved ahead and back."""
    whole = copy.deepcopy(pair)
    expected = whole.game(Extragradient)
    game = Extragradient(Adam(pair.critic[0].parameters(), lr=0.01), Adam(pair.generator.parameters(), lr=0.01))
    game.critic.optimizer.add_param_group({"params": list(pair.critic[2].parameters())})
    needed = []

    def generator():
        needed.append([p.requires_grad for p in pair.critic.parameters()])
        return pair.generator_loss()

    for _ in range(2):
        game.step(engine_of(game, pair.critic_loss, generator))
        expected.step(engine_of(expected, whole.critic_loss, whole.generator_loss))
    assert not any(any(flags) for flags in needed)
    for ours, truth in zip(pair.weights(), whole.weights(), strict=True):
        assert torch.equal(ours, truth)


@pytest.mark.parametrize("name", ["extragradient", "runge-kutta", "consensus", "competitive", "follow-the-ridge"])
def test_parameters_frozen_and_freed_again(name, pair):
    game = pair.game(GAMES[name])
    pair.critic[0].requires_grad_(False)
    before = pair.weights()
    pair.step(game)
    moved = [bool((a != b).any()) for a, b in zip(before, pair.weights(), strict=True)]
    assert moved == [False, False, True, True, True, True, True, True]
    pair.critic[0].requires_grad_(True)
    pair.step(game)
    assert all((a != b).any() for a, b in zip(before, pair.weights(), strict=True))


@pytest.mark.parametrize("kind", [Optimistic, PastExtragradient, VarianceReducedExtragradient])
def test_a_memory_that_no_longer_fits(kind, pair):
    game = pair.game(kind)
    pair.step(game)
    pair.generator[0].requires_grad_(False)
    with pytest.raises(
        RuntimeError, match=rf"{kind.__name__}: memory\['(update|snapshot)'\] is of 8 tensors.*of the 6"
    ):
        game.step(engine_of(game, pair.critic_loss, pair.generator_loss))
    game.memory.clear()
    pair.step(game)


# The system that follow-the-ridge solves amplifies rounding without a bound.
@pytest.mark.parametrize("kind", [kind for name, kind in GAMES.items() if name != "follow-the-ridge"])
def test_autocast_around_the_step_is_that_inside_the_closures(kind, generator):
    around = Pair(generator, torch.float32)
    inside, start = copy.deepcopy(around), torch.cat([w.flatten() for w in around.weights()])
    half = torch.autocast("cpu", torch.bfloat16)
    inside.critic_loss, inside.generator_loss = (half(loss) for loss in (inside.critic_loss, inside.generator_loss))
    around.step, moves = half(around.step), []
    for each in (around, inside):
        game = kind(*(SGD(p.parameters(), lr=0.5) for p in (each.critic, each.generator)))
        for _ in range(2):
            each.step(game)
        moves.append(torch.cat([w.flatten() for w in each.weights()]) - start)
    assert (moves[0] - moves[1]).norm() <= 1e-3 * moves[1].norm()


@EVERY
def test_a_state_goes_to_the_device_of_the_parameters(kind, pair):
    game = pair.game(kind)
    for _ in range(2):
        pair.step(game)
    state = game.state_dict()
    pair.critic.to("meta")
    moved = pair.game(kind)
    moved.load_state_dict(state)
    for name, tensors in moved.memory.items():
        if len(tensors) == 8:
            assert [t.device.type for t in tensors] == ["meta"] * 4 + ["cpu"] * 4, name
        else:
            assert name in ("inner_steps", "steps", "batches")
    assert moved.memory.keys() == game.memory.keys()


@pytest.mark.parametrize("kind", [Extragradient, RungeKutta, VarianceReducedExtragradient])
def test_sparse_gradients_are_those_of_a_dense_table(kind, generator):
    after = []
    for sparse in (True, False):
        torch.manual_seed(3)
        table = nn.Embedding(5, 2, sparse=sparse, dtype=torch.float64)
        critic = nn.Linear(2, 1, dtype=torch.float64)
        real, rows = torch.randn(4, 2, dtype=torch.float64), torch.tensor([0, 2, 2, 4])

        def of_critic(critic=critic, table=table, real=real, rows=rows):
            return nonsaturating.critic(critic(real), critic(table(rows)))

        def of_generator(critic=critic, table=table, rows=rows):
            return nonsaturating.generator(critic(table(rows)), None)

        game = kind(SGD(critic.parameters(), lr=0.1), SGD(table.parameters(), lr=0.1))
        for _ in range(2):
            game.step(engine_of(game, of_critic, of_generator))
        after.append(torch.cat([table.weight.detach().flatten(), critic.weight.detach().flatten()]))
    torch.testing.assert_close(*after, rtol=1e-12, atol=1e-12)
