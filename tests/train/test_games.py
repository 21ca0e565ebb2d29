"""Runs with every optimiser of games: their gradients, what a checkpoint carries, what is refused."""

import pytest
import torch

from fastgan.data import load
from fastgan.errors import UserError
from fastgan.games import GAMES
from fastgan.losses import LOSSES
from fastgan.penalties import parse
from fastgan.train import TrainConfig, resume, train
from fastgan.train.checkpoint import find_checkpoint, read_checkpoint
from fastgan.train.closures import Closures, critic_objective
from fastgan.train.regularisation import NO_REGULARISATION
from fastgan.train.state import TrainState
from fastgan.train.step import train_step
from tests.rotation import in_turn

SMALL = {"preset": "digits-resnet", "batch_size": 8, "save_every": 100}
# The step that each is tried with; those of SGD need larger ones than Adam's 4e-4 to be seen to move.
SETTINGS = {"competitive": "competitive:1e-3:3", "follow-the-ridge": "follow-the-ridge:1:1e-3:3"}


@pytest.fixture
def state(tiny):
    def make(**changes):
        return TrainState(tiny(**{**SMALL, **changes}), load("digits", 8, 1), torch.device("cpu"))

    return make


def tensors(run):
    return read_checkpoint(find_checkpoint(run, "--out"))[0]


@pytest.mark.parametrize("name", in_turn(list(GAMES), "resumed games", run=4))
def test_a_resumed_run_goes_on_bit_for_bit(name, tiny):
    chosen = {**SMALL, "optimizer": SETTINGS.get(name, name), "penalty": "r1:1"}
    whole = train(tiny("whole", steps=5, **chosen), quiet=True)
    first = train(tiny("parts", steps=3, **chosen), quiet=True)
    middle = tensors(first.run)
    resume(first.run, quiet=True, steps=5)
    expected, found = tensors(whole.run), tensors(first.run)
    assert expected.keys() == found.keys()
    for key in expected:
        assert torch.equal(expected[key], found[key]), key
    for player in ("critic", "generator"):
        weights = [key for key in found if key.startswith(f"{player}.") and key.endswith("weight")]
        assert weights
        assert any((found[key] != middle[key]).any() for key in weights)


@pytest.mark.parametrize("loss", ["hinge", "mmd"])
def test_what_the_critic_minimises_is_the_same_for_methods_of_either_order(state, loss):
    """The value and its gradient, with penalties on data, samples and points between."""
    found = {}
    for name in ("alternating", "consensus"):
        torch.manual_seed(5)
        made = state(optimizer=name, loss=loss)
        made.critic.double(), made.generator.double()
        images, latents = made.next_batch().images.double(), made.next_latents().double()
        penalties = parse("r1:1,r2:3,wgan-gp:10")
        total, step = critic_objective(made, LOSSES[loss], images, latents, penalties, 2)
        total.backward()
        found[name] = [total.detach(), *(p.grad for p in made.critic.parameters()), *step.penalties.values(),
                       *step.gradient_norms.values(), step.losses["critic"]]  # fmt: skip
        first_order = "one pass" if loss == "hinge" else "double backward, because the loss is of several numbers"
        assert step.method.startswith(first_order if name == "alternating" else "double backward, for consensus")
    torch.testing.assert_close(*found.values(), rtol=1e-8, atol=1e-10)


def test_consensus_descends_along_v_and_its_pull(state):
    """One step of a run, against the gradient of 1/2 ||v||^2 by autograd on the whole."""
    made, textbook = (state(optimizer="consensus:0.1", loss="nonsaturating") for _ in range(2))
    steps = []
    for player in made.game.players:
        player.optimizer.step = lambda p=player: steps.append([q.grad.clone() for q in p.parameters])
    train_step(made)

    images, z = textbook.next_batch().images, textbook.next_latents()
    x, y = list(textbook.critic.parameters()), list(textbook.generator.parameters())
    logits = textbook.critic(textbook.generator(z))
    critic = LOSSES["nonsaturating"].critic(textbook.critic(images), logits)
    generator = LOSSES["nonsaturating"].generator(logits, None)
    v = torch.autograd.grad(critic, x, create_graph=True) + torch.autograd.grad(generator, y, create_graph=True)
    pull = torch.autograd.grad(sum(g.square().sum() for g in v) / 2, x + y)
    expected = [g + 0.1 * p for g, p in zip(v, pull, strict=True)]
    for ours, truth in zip(steps[0] + steps[1], expected, strict=True):
        torch.testing.assert_close(ours, truth.detach(), rtol=1e-3, atol=1e-4 * truth.abs().max().item())


def test_what_the_closures_draw(state):
    """Anew at every call, or once where the method wants to see the same."""
    for optimizer, same in (("extragradient", False), ("runge-kutta", True), ("consensus", True)):
        made = state(optimizer=optimizer, loss="hinge")
        closures = Closures(made, NO_REGULARISATION)
        seen = []
        made.generator.register_forward_pre_hook(lambda _, arguments, seen=seen: seen.append(arguments[0]))
        closures.critic(), closures.generator(), closures.critic()
        assert [torch.equal(z, seen[0]) for z in seen] == [True, same, same]


def test_steps_of_the_critic(state):
    made = state(optimizer="alternating:3", loss="hinge")
    calls = []
    made.critic.register_forward_pre_hook(lambda *_: calls.append(0))
    train_step(made)
    assert len(calls) == 3 * 2 + 1
    assert made._order._read == 3  # fresh images for each


@pytest.mark.parametrize("optimizer", ["alternating:2", "lookahead:2:0.5"])
def test_weights_are_clipped_after_every_update_of_the_critic(optimizer, state):
    made, seen = state(optimizer=optimizer, clip_weights=0.01, loss="wasserstein"), []
    made.critic.register_forward_pre_hook(lambda *_: seen.append(max(p.abs().max() for p in made.critic.parameters())))
    for _ in range(2):
        train_step(made)
    assert seen[0] > 0.01  # before the first update
    assert all(size <= 0.01 for size in seen[2:])


def test_a_snapshot_at_the_start_of_every_epoch(state):
    made, taken = state(optimizer="variance-reduced", batch_size=600, loss="hinge"), []
    snapshot = made.game.snapshot
    made.game.snapshot = lambda batches: (taken.append(made.step), snapshot(batches))
    for _ in range(4):
        train_step(made)
    assert taken == [0, 2]  # two batches of 600 in 1,797 images


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clip_weights": -1.0}, "--clip-weights is -1.0, expected a number of at least 0"),
        ({"clip_weights": 0.1, "spectral_norm": True}, "--clip-weights is 0.1, expected 0: --spectral-norm bounds"),
        ({"optimizer": "sgd"}, "^--optimizer is 'sgd', expected one of alternating, simultaneous"),
        (
            {"optimizer": "consensus:x"},
            "--optimizer is 'consensus:x', expected numbers after the name: consensus:gamma",
        ),
        (
            {"optimizer": "alternating:0"},
            "--optimizer is 'alternating:0': Alternating: critic_steps is 0.0, expected an",
        ),
        (
            {"preset": "stylegan2-small", "path_length": 2.0, "optimizer": "consensus"},
            "--path-length is 2.0, expected 0: consensus differentiates the generator's loss twice",
        ),
        (
            {"preset": "stylegan2-small", "path_length": 2.0, "optimizer": "runge-kutta:2:0.1"},
            "--path-length is 2.0, expected 0: runge-kutta:2:0.1 differentiates the generator's loss twice",
        ),
    ],
)
def test_what_cannot_be(changes, message, tmp_path):
    with pytest.raises(UserError, match=message):
        TrainConfig.for_preset(**{"preset": "digits-resnet", "out": tmp_path / "run", **changes})
