"""Runs with objectives of features and of reconstruction errors, and with the ones that have a state."""

import pytest
import torch

from fastgan import recipes
from fastgan.errors import UserError
from fastgan.losses import LOSSES
from fastgan.nn import ReconstructionError
from fastgan.recipes.gan import FEATURES
from fastgan.train.checkpoint import find_checkpoint, read_checkpoint
from tests.train.steps import begun, gradients, networks, recipe_of, resumed

pytestmark = pytest.mark.usefixtures("one_thread")
OTHERS = [name for name, loss in LOSSES.items() if loss.output != "logit"]
OTHERS += ["label_smoothing:0.9:nonsaturating", "feature_matching:hinge"]
IMAGES = [name for name in recipes.names() if recipes.read(name).task.kind == "gan"]


def made(name="digits-resnet", dtype=torch.float32, **settings):
    return begun(recipe_of(name, **{"penalty": "", "batch_size": 8, **settings}), dtype)


@pytest.mark.parametrize("recipe", ["digits-dcgan", "digits-resnet"])
@pytest.mark.parametrize("loss", OTHERS)
def test_both_players_learn(loss, recipe):
    run = made(recipe, loss=loss)
    before = [p.detach().clone() for p in run.game.parameters]
    for _ in range(2):
        step = next(run)
    assert all(value.isfinite() for value in step.losses)
    moved = [(p != q).any() for p, q in zip(run.game.parameters, before, strict=True)]
    # The bias of features or of a Wasserstein critic's logits may cancel.
    assert sum(moved) >= len(moved) - 1


def test_what_critics_give():
    images = made().engine.batch().tensors["image"]
    assert networks(made(loss="mmd"))[1](images).shape == (8, FEATURES)
    critic = networks(made(loss="began"))[1]
    assert isinstance(critic, ReconstructionError)
    assert critic.power == 1
    assert critic(images).shape == (8,)
    assert networks(made(loss="ebgan:1"))[1].power == 2


@pytest.mark.parametrize("recipe", IMAGES)
def test_every_recipe_has_features_to_match(recipe):
    run = made(recipe, loss="feature_matching", resolution=8, penalty_every=1, path_length=0)
    critic = networks(run)[1].eval()
    images = torch.randn(4, *run.task.needs["image"].shape)
    found = critic(images)
    assert torch.equal(found[:, :1], critic.critic(images))
    assert found.shape[1] > FEATURES


def test_the_generator_minimises_the_distance_of_features_alone():
    """Its gradient, against the critic's own layer; the critic's is that of its game."""
    run = made(loss="feature_matching:wasserstein")
    run.task.generators.eval()
    batch = run.engine.batch()
    found, _ = gradients(run, "generator", batch)
    generator, critic = networks(run)
    images, samples = batch.tensors["image"], generator(batch.tensors["latent"])
    body = critic.critic.features
    gap = body(images).flatten(1).mean(0) - body(samples).flatten(1).mean(0)
    truth = torch.autograd.grad(gap.square().sum(), list(generator.parameters()), retain_graph=True)
    for ours, expected in zip(found, truth, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())
    _, total = gradients(run, "critic", batch)
    torch.testing.assert_close(total, (critic.critic(samples).mean() - critic.critic(images).mean()).detach())


def test_a_resumed_run_that_matches_features_goes_on_bit_for_bit(tmp_path):
    chosen = {"loss": "feature_matching:hinge", "penalty": "r1:0.5,wgan-gp:1", "spectral_norm": True}
    resumed(tmp_path, "digits-dcgan", batch_size=8, **chosen)


def test_k_of_began_follows_the_errors_and_goes_through_a_checkpoint(tmp_path):
    run = made(loss="began")
    run.task.eval()
    batch = made(loss="began").engine.batch()
    generator, critic = networks(run)
    with torch.no_grad():
        real, fake = critic(batch.tensors["image"]).mean(), critic(generator(batch.tensors["latent"])).mean()
    next(run)
    assert run.task.loss_k.item() == pytest.approx(max(0.0, (0.001 * (0.5 * real - fake)).item()), abs=1e-7)
    folder = resumed(tmp_path, "digits-resnet", penalty="", batch_size=8, loss="began:1")
    assert "task.loss_k" in read_checkpoint(find_checkpoint(folder, "--out"))[0]
    # Every run has a k of its own.
    assert LOSSES["began"].state["k"] == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "label_smoothing:0.9:hinge"}, "task.loss is label_smoothing: loss is hinge, whose critic has no ta"),
        ({"loss": "feature_matching:mmd"}, "task.loss is feature_matching_with: loss is mmd, a game of features, exp"),
        ({"loss": "began:2"}, "task.loss is began: gamma is 2.0, expected a number above 0"),
        ({"loss": "mmd", "batch_size": 1}, "run.batch_size is 1, expected at least 2: mmd compares samples with each"),
        ({"loss": "sliced_wasserstein", "batch_size": 1}, "run.batch_size is 1, expected at least 2: sliced_wassers"),
    ],
)
def test_what_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        begun(recipe_of("digits-dcgan", **settings))


@pytest.mark.parametrize("recipe", [name for name in IMAGES if name != "stylegan2"])
@pytest.mark.parametrize("loss", ["nonsaturating", "relativistic_pairing", "feature_matching", "began", "mmd"])
def test_a_single_sample_or_pack(recipe, loss):
    """Batch norm over one image's pixels, minibatch layers without others: whatever is not refused takes a step."""
    small = {"image": "digits", "resolution": 8, "channels": 1, "penalty_every": 1, "path_length": 0}
    for size in ({"batch_size": 1}, {"batch_size": 3, "pack": 3}, {"batch_size": 2}):
        try:
            run = made(recipe, loss=loss, **small, **size)
        except UserError as error:
            styled = "stylegan2" in recipe
            assert loss in ("mmd", "began")
            assert loss != "began" or styled or "pack" in size, error  # noqa: PT017 (all but a few go on)
            assert loss != "mmd" or size != {"batch_size": 2}, error  # noqa: PT017
            continue
        assert all(value.isfinite().all() for value in next(run).log.values())
