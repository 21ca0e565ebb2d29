"""Runs whose critic has another norm than its recipe's: layers, values, resumption, refusals."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fastgan import recipes
from fastgan.errors import UserError
from fastgan.losses import LOSSES
from fastgan.models import CRITIC_NORMS
from fastgan.nn import BatchRenorm2d, SplitBatchNorm2d, VirtualBatchNorm, fake_statistics, pack
from fastgan.train.checkpoint import find_checkpoint, read_checkpoint
from fastgan.unrolling import Adam, unrolled_generator_loss
from tests.train.steps import begin, begun, gradients, networks, recipe_of, resumed

pytestmark = pytest.mark.usefixtures("one_thread")
DCGAN = {"name": "dcgan", "image": "digits", "resolution": 8, "channels": 1, "batch_size": 8}
LAYERS = {
    "none": nn.Identity,
    "batch": nn.BatchNorm2d,
    "batch-renorm": BatchRenorm2d,
    "virtual-batch": VirtualBatchNorm,
    "split-batch": SplitBatchNorm2d,
}


def made(**settings):
    """A run in float64; every one of the same settings is the same."""
    return begun(recipe_of(**{**DCGAN, **settings}), torch.float64)


def norms(critic):
    return [
        layer for layer in critic.modules() if isinstance(layer, (nn.modules.batchnorm._BatchNorm, *LAYERS.values()))
    ]


@pytest.mark.parametrize("kind", CRITIC_NORMS)
def test_every_batch_norm_is_replaced_and_nothing_else(kind):
    plain, critic = (networks(made(resolution=16, critic_norm=norm, seed=3))[1] for norm in ("", kind))
    critic = critic.critic if kind == "virtual-batch" else critic
    found = [(name, layer) for name, layer in plain.named_modules() if isinstance(layer, nn.BatchNorm2d)]
    assert [type(layer) for layer in norms(critic)] == [LAYERS[kind]] * len(found) == [LAYERS[kind]] * 2
    for name, layer in found:
        assert getattr(critic.get_submodule(name), "num_features", layer.num_features) == layer.num_features
    assert [name for name, _ in plain.named_modules()] == [name for name, _ in critic.named_modules()]


@pytest.mark.parametrize("kind", CRITIC_NORMS)
def test_data_latents_and_weights_are_those_of_the_recipe(kind):
    plain, other = made(), made(critic_norm=kind)
    one, another = (run.engine.batch() for run in (plain, other))
    assert all(torch.equal(value, another.tensors[name]) for name, value in one.tensors.items())
    weights = {name.removeprefix("critic."): p for name, p in networks(other)[1].named_parameters()}
    same = [torch.equal(p, weights[name]) for name, p in networks(plain)[1].named_parameters() if name in weights]
    assert same
    assert all(same)


def test_the_reference_batch_is_of_data_and_of_the_seed():
    run = made(critic_norm="virtual-batch", conditional="projection")
    critic, digits = networks(run)[1], run.sources["image"]
    rows = {tuple(x.flatten().tolist()): i for i, x in enumerate(digits.batch(torch.arange(1797)).double())}
    chosen = [rows[tuple(x.flatten().tolist())] for x in critic.images]
    assert len(set(chosen)) == 8
    assert torch.equal(critic.labels, digits.labels[chosen])
    again, other = (networks(made(critic_norm="virtual-batch", seed=seed))[1] for seed in (0, 1))
    assert torch.equal(again.images, critic.images)
    assert not torch.equal(other.images, critic.images)
    assert again.labels is None
    packed = networks(made(critic_norm="virtual-batch", pack=4))[1].critic
    assert torch.equal(packed.images, pack(critic.images, 4))


def with_reference(critic, x):
    """Each sample's logit with the reference batch beside it: what batch norm makes of n + 1 images, for the last.

    Of a critic with one norm. The reference is normalised by itself, which its only norm makes no difference to.
    """
    layers = list(critic.critic.features)
    (norm,) = norms(critic)
    at = layers.index(norm)
    rows = []
    for i in range(len(x)):
        h = nn.Sequential(*layers[:at])(torch.cat([critic.images, x[i : i + 1]]))
        h = F.batch_norm(h, None, None, norm.weight, norm.bias, training=True, eps=norm.eps)
        rows.append(nn.Sequential(*layers[at + 1 :])(h[-1:]))
    return critic.critic.head(torch.cat(rows))


@pytest.mark.parametrize("game", ["alternating", "consensus"])
def test_virtual_batch_norm_is_batch_norm_beside_the_reference_batch(game):
    """Gradients go through the reference batch's statistics too."""
    chosen = {"critic_norm": "virtual-batch", "game": game, "loss": "hinge", "penalty": "r1:3"}
    ours, textbook = (made(**chosen) for _ in range(2))
    batch, loss, (generator, critic) = ours.engine.batch(), LOSSES["hinge"], networks(textbook)
    images, samples = batch.tensors["image"], generator(batch.tensors["latent"])
    if game == "consensus":
        total = ours.engine.losses(batch).critic
        found = torch.autograd.grad(total, list(ours.task.critics.parameters()))
    else:
        found, _ = gradients(ours, "critic", batch)
    log = ours.engine.log
    points = images.clone().requires_grad_()
    of_points = with_reference(critic, points)
    (g,) = torch.autograd.grad(of_points.sum(), points, create_graph=True)
    plain, r1 = loss.critic(of_points, with_reference(critic, samples.detach())), 1.5 * g.square().sum((1, 2, 3)).mean()
    torch.testing.assert_close(log["critic"], plain.detach())
    torch.testing.assert_close(log["penalty_r1"], r1.detach())
    expected = torch.autograd.grad(plain + r1, list(critic.parameters()))
    torch.testing.assert_close(list(found), list(expected), rtol=1e-7, atol=1e-9)

    value = ours.engine.gradient("generator", batch)
    torch.testing.assert_close(value, loss.generator(with_reference(critic, samples), None).detach())


@pytest.mark.parametrize("penalty", ["", "r1:1", "r1:1,r2:1,wgan-gp:10"])
@pytest.mark.parametrize("loss", ["nonsaturating", "relativistic_pairing"])
def test_split_averages_are_of_data_and_of_samples(penalty, loss):
    """Of every call that a step makes, told apart by what the critic is given; interpolates are of neither."""
    run = made(critic_norm="split-batch", penalty=penalty, loss=loss)
    generator, critic = networks(run)
    (norm,) = norms(critic)
    samples, calls = [], []
    batch = run.engine.batch()
    run.engine.gradient("critic", batch)  # where penalties look at the critic once more
    norm.running_mean.zero_()
    generator.register_forward_hook(lambda module, given, images: samples.append(images.detach()))
    critic.register_forward_pre_hook(lambda module, given: calls.append([given[0].detach()]))
    norm.register_forward_pre_hook(lambda module, given: calls[-1].append(given[0].detach().mean((0, 2, 3))))
    for side in ("critic", "generator"):
        run.engine.gradient(side, batch)
    expected, counts = torch.zeros(2, norm.num_features, dtype=torch.float64), [0, 0]
    for x, mean in calls:
        real, fake = torch.equal(x, batch.tensors["image"]), any(torch.equal(x, y) for y in samples)
        row = 0 if real else 1 if fake else None
        if row is not None:
            expected[row] += 0.1 * (mean - expected[row])
            counts[row] += 1
    torch.testing.assert_close(norm.running_mean, expected)
    assert counts == [2 if loss == "relativistic_pairing" else 1, 2]
    assert len(calls) == sum(counts) + ("wgan-gp" in penalty)


def test_unrolling_judges_samples_by_their_statistics():
    run = made(critic_norm="split-batch", loss="hinge", unroll=2)
    run.task.critics.eval()
    generator, critic = networks(run)
    (norm,) = norms(critic)
    nn.init.normal_(norm.running_mean)
    loss, batch = LOSSES["hinge"], run.engine.batch()
    images = batch.tensors["image"]
    found = run.engine.gradient("generator", batch)
    samples = generator(batch.tensors["latent"])

    def of_samples(critic_):
        with fake_statistics(critic):
            return critic_(samples)

    expected = unrolled_generator_loss(
        critic,
        critic_loss=lambda critic_: loss.critic(critic_(images), of_samples(critic_)),
        generator_loss=lambda critic_: loss.generator(of_samples(critic_), None),
        steps=2,
        optimizer=Adam.continuing(run.game.critic.optimizer, critic),
    )
    torch.testing.assert_close(found, expected.detach(), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    "chosen",
    [
        {"critic_norm": "none", "loss": "hinge"},
        {"critic_norm": "batch-renorm", "penalty": "r1:1", "spectral_norm": True},
        {"critic_norm": "split-batch", "unroll": 1, "conditional": "projection"},
        {"critic_norm": "split-batch", "game": "consensus", "penalty": "r2:1"},
        {"critic_norm": "virtual-batch", "pack": 2, "penalty": "wgan-gp:1", "instance_noise": 0.1},
        {"critic_norm": "virtual-batch", "conditional": "projection", "spectral_norm": True},
        {"critic_norm": "virtual-batch", "unroll": 1},
        {"critic_norm": "virtual-batch", "loss": "ebgan", "pulling_away": 0.1},
    ],
    ids=str,
)
def test_a_resumed_run_goes_on_bit_for_bit(chosen, tmp_path):
    run = resumed(tmp_path, **{**DCGAN, **chosen})
    assert recipes.load(run).task.sample(3).isfinite().all()


def test_the_reference_batch_lies_in_the_checkpoint(tmp_path):
    chosen = {**DCGAN, "critic_norm": "virtual-batch"}
    run = recipes.start(recipe_of(**chosen), tmp_path / "run", quiet=True).folder
    tensors, _ = read_checkpoint(find_checkpoint(run, "--out"))
    assert tensors["task.critics.critic.images"].shape == (8, 1, 8, 8)
    other = recipe_of(**{**chosen, "critic_norm": "batch", "steps": 7})
    with pytest.raises(UserError, match=r"task.critic_norm is 'batch', but the run was started with 'virtual-batch'"):
        recipes.start(other, run, resume=True, quiet=True)


def test_spectral_norms_are_those_of_the_critic_inside():
    packed = networks(begin(made(critic_norm="virtual-batch", spectral_norm=True, pack=2)))[1]
    assert [len(x._forward_pre_hooks) for x in (packed, packed.critic, packed.critic.critic)] == [0, 0, 1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"critic_norm": "layer"},
            "task.critic_norm is 'layer', expected one of none, batch, batch-renorm, virt",
        ),
        (
            {"critic_norm": "none", "name": "digits-resnet"},
            "task.critic_norm is 'none', expected nothing: the critic has no batch norm to replace",
        ),
    ],
)
def test_what_cannot_be(settings, message):
    with pytest.raises(UserError, match=message):
        made(**settings)
