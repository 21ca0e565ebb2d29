"""Runs with every optimiser of games: their gradients, what a checkpoint carries, what is refused."""

import pytest
import torch

from fastgan import recipes
from fastgan.errors import UserError
from fastgan.games import GAMES
from fastgan.losses import LOSSES
from fastgan.train.checkpoint import find_checkpoint, read_checkpoint
from tests.rotation import in_turn
from tests.train.steps import begin, begun, gradients, networks, recipe_of, watched

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = {"batch_size": 8, "penalty": ""}
# The step that each is tried with; those of SGD need larger ones than Adam's 4e-4 to be seen to move.
SETTINGS = {"competitive": "competitive:1e-3:3", "follow-the-ridge": "follow-the-ridge:1:1e-3:3"}


def small(**settings):
    return recipe_of("digits-resnet", **{**SMALL, **settings})


def tensors(run):
    return read_checkpoint(find_checkpoint(run, "--out"))[0]


@pytest.mark.parametrize("name", in_turn(list(GAMES), "resumed games", run=4))
def test_a_resumed_run_goes_on_bit_for_bit(name, tmp_path):
    """Variance-reduced extragradient starts a new epoch of two batches in between."""
    size = {"batch_size": 600} if name == "variance-reduced" else {}
    chosen = {"game": SETTINGS.get(name, name), "penalty": "r1:1", **size}
    recipes.start(small(steps=5, **chosen), tmp_path / "whole", quiet=True)
    recipes.start(small(steps=3, **chosen), tmp_path / "parts", quiet=True)
    middle = tensors(tmp_path / "parts")
    recipes.start(small(steps=5, **chosen), tmp_path / "parts", resume=True, quiet=True)
    expected, found = tensors(tmp_path / "whole"), tensors(tmp_path / "parts")
    assert expected.keys() == found.keys()
    for key in expected:
        assert torch.equal(expected[key], found[key]), key
    for side in ("critics", "generators"):
        weights = [key for key in found if key.startswith(f"task.{side}.") and key.endswith("weight")]
        assert weights
        assert any((found[key] != middle[key]).any() for key in weights)


@pytest.mark.parametrize("loss", ["hinge", "mmd"])
def test_what_the_critic_minimises_is_the_same_for_methods_of_either_order(loss):
    """The value and its gradient, with penalties on data, samples and points between."""
    found = {}
    for game in ("alternating", "consensus"):
        run = begun(small(game=game, loss=loss, penalty="r1:1,r2:3,wgan-gp:10", penalty_every=2), torch.float64)
        batch = run.engine.batch()
        if game == "alternating":
            grads, total = gradients(run, "critic", batch)
        else:
            torch.manual_seed(0)
            total = run.engine.losses(batch).critic
            grads = torch.autograd.grad(total, list(run.task.critics.parameters()))
        names = [f"{kind}_{name}" for kind in ("penalty", "gradient_norm") for name in ("r1", "r2", "wgan-gp")]
        found[game] = [total.detach(), *grads, *(run.engine.log[name] for name in [*names, "critic"])]
        first_order = "one pass" if loss == "hinge" else "double backward, because the loss is of several numbers"
        said = f"gradient of the penalties: {first_order}"
        assert run.task.remark.startswith(
            said if game == "alternating" else "gradient of the penalties: double backwar"
        )
    torch.testing.assert_close(*found.values(), rtol=1e-8, atol=1e-10)


def test_consensus_descends_along_v_and_its_pull():
    """One step of a run, against the gradient of 1/2 ||v||^2 by autograd on the whole."""
    run, textbook = (begun(small(game="consensus:0.1", loss="nonsaturating")) for _ in range(2))
    seen = watched(run)
    next(run)

    batch = textbook.engine.batch()
    generator, critic = networks(textbook)
    x, y = list(critic.parameters()), list(generator.parameters())
    logits = critic(generator(batch.tensors["latent"]))
    of_critic = LOSSES["nonsaturating"].critic(critic(batch.tensors["image"]), logits)
    of_generator = LOSSES["nonsaturating"].generator(logits, None)
    v = torch.autograd.grad(of_critic, x, create_graph=True) + torch.autograd.grad(of_generator, y, create_graph=True)
    pull = torch.autograd.grad(sum(g.square().sum() for g in v) / 2, x + y)
    expected = [g + 0.1 * p for g, p in zip(v, pull, strict=True)]
    for ours, truth in zip(seen["critic"][0] + seen["generator"][0], expected, strict=True):
        torch.testing.assert_close(ours, truth.detach(), rtol=1e-3, atol=1e-4 * truth.abs().max().item())


@pytest.mark.parametrize(("game", "same"), [("extragradient", False), ("runge-kutta", True), ("consensus", True)])
def test_what_a_step_draws(game, same):
    """Anew for every gradient, or once where the method wants to see the same."""
    run, seen = begun(small(game=game, loss="hinge")), []
    networks(run)[0].register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    next(run)
    assert len(seen) >= 2
    assert all(torch.equal(z, seen[0]) == same for z in seen[1:])


def test_steps_of_the_critic():
    run, calls = begun(small(game="alternating:3", loss="hinge")), []
    networks(run)[1].register_forward_pre_hook(lambda *_: calls.append(0))
    next(run)
    assert len(calls) == 3 * 2 + 1
    assert run.engine.reader.position == 3  # fresh images for each


@pytest.mark.parametrize("game", ["alternating:2", "lookahead:2:0.5"])
def test_weights_are_clipped_after_every_update_of_the_critic(game):
    run, seen = begun(small(game=game, clip_weights=0.01, loss="wasserstein")), []
    critic = networks(run)[1]
    critic.register_forward_pre_hook(lambda *_: seen.append(max(p.abs().max() for p in critic.parameters())))
    for _ in range(2):
        next(run)
    assert seen[0] > 0.01  # before the first update
    assert all(size <= 0.01 for size in seen[2:])


def test_a_snapshot_once_an_epoch():
    run, taken = begun(small(game="variance-reduced", batch_size=600, loss="hinge")), []
    snapshot = run.game.snapshot
    run.game.snapshot = lambda engine: (taken.append(run.step), snapshot(engine))
    for _ in range(5):
        next(run)
    assert taken == [0, 2, 4]  # two batches of 600 in 1,797 images


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clip_weights": -1.0}, r"task.clip_weights is -1.0, expected greater than or equal to 0"),
        ({"clip_weights": 0.1, "spectral_norm": True}, "task.clip_weights is 0.1, expected 0: task.spectral_norm boun"),
        ({"game": "sgd"}, "^game.kind is 'sgd', expected one of alternating, simultaneous"),
        ({"game": "consensus:x"}, "game.kind is 'consensus:x', expected numbers after the name: consensus:gamma"),
        ({"game": "alternating:0"}, "game.kind is 'alternating:0': Alternating: critic_steps is 0.0, expected an"),
        (
            {"name": "stylegan2-small", "resolution": 8, "path_length": 2.0, "game": "consensus"},
            "task.path_length is 2, expected 0: the game differentiates the generator's loss twice",
        ),
        (
            {"name": "stylegan2-small", "resolution": 8, "path_length": 2.0, "game": "runge-kutta:2:0.1"},
            "task.path_length is 2, expected 0: the game differentiates the generator's loss twice",
        ),
        (
            {"game": "variance-reduced", "penalty": "r1:1", "penalty_every": 4},
            "game.kind is 'variance-reduced', which keeps one step's mean gradient for an epoch; expected every part",
        ),
        (
            {"name": "stylegan2-small", "resolution": 8, "penalty": "", "penalty_every": 1, "path_length": 2.0,
             "game": "variance-reduced"},
            "expected every part in every step, and task has path length every 4",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be(settings, message):
    with pytest.raises(UserError, match=message):
        begun(recipe_of(**{"name": "digits-resnet", **settings}))


def test_what_is_due_in_every_step_can_be_remembered():
    settings = {"penalty_every": 1, "path_length": 2.0, "path_length_every": 1, "game": "variance-reduced"}
    run = begun(recipe_of("stylegan2-small", resolution=8, batch_size=4, **settings))
    assert begin(run).task.lazy == {"penalties": 1, "path_length": 1}
