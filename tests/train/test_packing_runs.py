"""Runs whose critic judges packs: gradients against packs put together by hand, resumed bit for bit, and refused."""

import pytest
import torch

from fastgan import recipes
from fastgan.errors import UserError
from fastgan.losses import LOSSES
from fastgan.nn import SpectralNorm
from fastgan.ops import interpolate
from fastgan.recipes.gan import FEATURES
from tests.train.steps import begun, gradients, networks, recipe_of, resumed

pytestmark = pytest.mark.usefixtures("one_thread")
M, HALF_R1, HALF_R2, GP = 4, 0.5, 1.5, 10.0
METHODS = {
    ("digits-resnet", "alternating"): "one pass",
    ("digits-dcgan", "alternating"): "double backward, because ",
    ("digits-resnet", "consensus"): "double backward, as the game differentiates it once more",
}


def packed(name="digits-resnet", **settings):
    """A run in float64, without dropout and noise; every one is the same."""
    run = begun(recipe_of(name, **{"penalty": "", "pack": M, **settings}), torch.float64)
    run.task.critics.eval()
    return run


def packs(x):
    """Each M samples as the channels of one."""
    return torch.stack([torch.cat([x[first + i] for i in range(M)]) for first in range(0, len(x), M)])


def squared_norms(critic, points):
    """Of the gradient with respect to all of a pack's numbers."""
    points = points.detach().requires_grad_()
    (g,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    return g.square().sum((1, 2, 3))


@pytest.mark.parametrize(("recipe", "game"), METHODS)
def test_critic_gradients_are_of_whole_packs(recipe, game):
    penalty = f"r1:{2 * HALF_R1},r2:{2 * HALF_R2},wgan-gp:{GP}"
    ours, textbook = (packed(recipe, game=game, loss="hinge", penalty=penalty) for _ in range(2))
    batch = ours.engine.batch()
    if game == "consensus":
        total = ours.engine.losses(batch).critic
        found = torch.autograd.grad(total, list(ours.task.critics.parameters()))
    else:
        found, _ = gradients(ours, "critic", batch)

    generator, whole = networks(textbook)
    critic = whole.critic
    torch.manual_seed(batch.key)  # of the interpolation weights
    real, fake = packs(batch.tensors["image"]), packs(generator(batch.tensors["latent"]).detach())
    assert real.shape == (16 // M, M, 8, 8)
    plain = LOSSES["hinge"].critic(critic(real), critic(fake))
    between = squared_norms(critic, interpolate(real, fake, torch.randint(2**62, (1,)))).sqrt()
    values = {
        "r1": HALF_R1 * squared_norms(critic, real).mean(),
        "r2": HALF_R2 * squared_norms(critic, fake).mean(),
        "wgan-gp": GP * (between - 1).square().mean(),
    }
    expected = torch.autograd.grad(plain + sum(values.values()), list(critic.parameters()))
    torch.testing.assert_close(list(found), list(expected), rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(ours.engine.log["critic"], plain.detach(), rtol=1e-9, atol=0)
    for name, value in values.items():
        torch.testing.assert_close(ours.engine.log[f"penalty_{name}"], value.detach(), rtol=1e-9, atol=0)
    assert ours.task.remark.startswith(f"gradient of the penalties: {METHODS[recipe, game]}")


@pytest.mark.parametrize("loss", ["nonsaturating", "relativistic_pairing", "mmd"])
def test_generator_gradients_are_of_whole_packs(loss):
    ours, textbook = (packed(loss=loss) for _ in range(2))
    batch = ours.engine.batch()
    found, value = gradients(ours, "generator", batch)

    generator, whole = networks(textbook)
    judged = whole.critic(packs(generator(batch.tensors["latent"])))
    assert judged.shape == (16 // M, FEATURES if loss == "mmd" else 1)
    expected = LOSSES[loss].generator(judged, whole.critic(packs(batch.tensors["image"])).detach())
    torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=0)
    expected = torch.autograd.grad(expected, list(generator.parameters()))
    torch.testing.assert_close(found, list(expected), rtol=1e-9, atol=1e-13)


def test_one_sample_at_a_time_is_the_critic_without_packing():
    single, whole = networks(packed(pack=1))[1], networks(packed())[1]
    assert type(single) is type(whole.critic)
    assert single.state_dict().keys() == whole.critic.state_dict().keys()


@pytest.mark.parametrize(
    "chosen",
    [
        {"name": "digits-dcgan", "spectral_norm": True},
        {"name": "digits-resnet", "spectral_norm": True},
        {"name": "stylegan2-small", "resolution": 8, "channels": 1, "batch_size": 8},
    ],
    ids=lambda chosen: chosen["name"],
)
def test_a_resumed_run_goes_on_bit_for_bit(chosen, tmp_path):
    run = resumed(tmp_path, **chosen, penalty="wgan-gp:10", pack=2)
    assert recipes.load(run).task.sample(3).isfinite().all()


def test_norms_of_all_layers_come_from_one_call(monkeypatch):
    """Also where a penalty calls the critic of packs itself: no layer computes its own."""
    run = begun(recipe_of("digits-resnet", pack=M, spectral_norm=True, penalty="r1:1"))
    assert sum(isinstance(module, SpectralNorm) for module in run.task.critics.modules()) > 5
    monkeypatch.setitem(SpectralNorm.forward.__globals__, "spectral_norm_op", None)
    next(run)


def test_another_degree_is_another_run(tmp_path):
    recipes.start(recipe_of("digits-dcgan", pack=2, steps=1), tmp_path / "run", quiet=True)
    with pytest.raises(UserError, match=r"task.pack is 4, but the run was started with 2; expected the same"):
        recipes.start(recipe_of("digits-dcgan", pack=4, steps=2), tmp_path / "run", resume=True, quiet=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pack": 0}, "task.pack is 0, expected greater than or equal to 1"),
        ({"pack": 3}, "run.batch_size is 16, expected a multiple of 3, the samples in a pack"),
        ({"pack": 4, "chunks": 8}, "run.batch_size is 16, in chunks of 2, expected a multiple of 4, the samples in a"),
        ({"pack": 2, "loss": "began"}, "task.pack is 2, expected 1: began rewards what is easy to reconstruct"),
        ({"pack": 16, "loss": "mmd"}, "run.batch_size is 16, expected at least 32: mmd compares packs with each other"),
        ({"pack": 2, "conditional": "projection"}, "task.pack is 2, expected another: projection is of the logits and"),
    ],
)
def test_what_cannot_be(settings, message):
    with pytest.raises(UserError, match=message):
        begun(recipe_of("digits-dcgan", **settings))
