"""Runs whose critic has another norm than its preset's: layers, values, resumption, refusals."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fastgan.errors import UserError
from fastgan.losses import LOSSES
from fastgan.models import PRESETS
from fastgan.nn import BatchRenorm2d, SplitBatchNorm2d, VirtualBatchNorm, fake_statistics, pack
from fastgan.penalties import parse
from fastgan.train import TrainConfig, load_generator, resume, train
from fastgan.train.checkpoint import read_checkpoint
from fastgan.train.closures import Closures, critic_objective, generator_objective
from fastgan.train.critic_norms import CRITIC_NORMS
from fastgan.train.look_ahead import unrolled_objective
from fastgan.train.networks import build_critic
from fastgan.train.regularisation import Regularisation
from fastgan.unrolling import Adam, unrolled_generator_loss

DCGAN = {"preset": "dcgan", "resolution": "8", "channels": 1, "batch_size": 8}
LAYERS = {
    "none": nn.Identity,
    "batch": nn.BatchNorm2d,
    "batch-renorm": BatchRenorm2d,
    "virtual-batch": VirtualBatchNorm,
    "split-batch": SplitBatchNorm2d,
}


@pytest.fixture
def state(tiny, double):
    """Makes the state of a run in float64; every one of the same settings is the same."""
    return lambda **changes: double(tiny(**{**DCGAN, **changes}))


def norms(critic):
    return [
        layer for layer in critic.modules() if isinstance(layer, (nn.modules.batchnorm._BatchNorm, *LAYERS.values()))
    ]


@pytest.mark.parametrize("kind", CRITIC_NORMS)
def test_every_batch_norm_is_replaced_and_nothing_else(kind, tiny):
    plain, critic = (
        build_critic(tiny(**{**DCGAN, "resolution": "16", "critic_norm": norm}, seed=3), 0) for norm in ("", kind)
    )
    found = [(name, layer) for name, layer in plain.named_modules() if isinstance(layer, nn.BatchNorm2d)]
    assert [type(layer) for layer in norms(critic)] == [LAYERS[kind]] * len(found) == [LAYERS[kind]] * 2
    for name, layer in found:
        assert getattr(critic.get_submodule(name), "num_features", layer.num_features) == layer.num_features
    assert [name for name, _ in plain.named_modules()] == [name for name, _ in critic.named_modules()]


def test_presets_say_whether_their_critic_has_batch_norm():
    for preset in PRESETS.values():
        size = {"resolution": 16, "channels": 1}
        assert preset.batch_norm == any(isinstance(x, nn.BatchNorm2d) for x in preset.critic(**size).modules())


@pytest.mark.parametrize("kind", CRITIC_NORMS)
def test_the_runs_streams_are_those_of_its_preset(kind, state):
    plain, other = state(), state(critic_norm=kind)
    assert torch.equal(plain.next_batch().images, other.next_batch().images)
    assert torch.equal(plain.next_latents(), other.next_latents())
    weights = {name.removeprefix("critic."): p for name, p in other.critic.named_parameters()}
    assert all(torch.equal(p, weights[name]) for name, p in plain.critic.named_parameters() if name in weights)


def test_the_reference_batch_is_of_data_and_of_the_seed(state):
    made = state(critic_norm="virtual-batch", conditional="projection")
    images, labels = made.critic.images, made.critic.labels
    rows = {tuple(x.flatten().tolist()): i for i, x in enumerate(made._images.batch(torch.arange(1797)).double())}
    chosen = [rows[tuple(x.flatten().tolist())] for x in images]
    assert len(set(chosen)) == 8
    assert torch.equal(labels, made._images.labels[chosen])
    again, other = (state(critic_norm="virtual-batch", seed=seed).critic for seed in (0, 1))
    assert torch.equal(again.images, images)
    assert not torch.equal(other.images, images)
    assert again.labels is None
    packed = state(critic_norm="virtual-batch", pack=4).critic.critic
    assert torch.equal(packed.images, pack(images, 4))


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


@pytest.mark.parametrize("optimizer", ["alternating", "consensus"])
def test_virtual_batch_norm_is_batch_norm_beside_the_reference_batch(optimizer, state):
    """Gradients go through the reference batch's statistics too."""
    ours, textbook = (state(critic_norm="virtual-batch", optimizer=optimizer) for _ in range(2))
    images, loss, critic = ours.next_batch().images, LOSSES["hinge"], textbook.critic
    total, step = critic_objective(ours, loss, images, ours.next_latents(), parse("r1:3"))
    total.backward(inputs=list(ours.critic.parameters()))
    fake = textbook.generator(textbook.next_latents()).detach()
    points = images.clone().requires_grad_()
    of_points = with_reference(critic, points)
    (g,) = torch.autograd.grad(of_points.sum(), points, create_graph=True)
    plain, r1 = loss.critic(of_points, with_reference(critic, fake)), 1.5 * g.square().sum((1, 2, 3)).mean()
    torch.testing.assert_close(step.losses["critic"], plain.detach())
    torch.testing.assert_close(step.penalties["r1"], r1.detach())
    expected = torch.autograd.grad(plain + r1, list(critic.parameters()))
    found = [p.grad for p in ours.critic.parameters()]
    torch.testing.assert_close(found, list(expected), rtol=1e-7, atol=1e-9)

    value = generator_objective(ours, loss, images, ours.next_latents())
    expected = loss.generator(with_reference(critic, textbook.generator(textbook.next_latents())), None)
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("penalty", ["none", "r1:1", "r1:1,r2:1,wgan-gp:10"])
@pytest.mark.parametrize("loss", ["nonsaturating", "relativistic_pairing"])
def test_split_averages_are_of_data_and_of_samples(penalty, loss, state):
    """Of every call that a step makes, told apart by what the critic is given; interpolates are of neither."""
    made = state(critic_norm="split-batch", penalty=penalty, loss=loss)
    closures, (norm,) = Closures(made, Regularisation(parse(penalty))), norms(made.critic)
    samples, calls = [], []
    closures.critic()  # where penalties look at the critic once more
    norm.running_mean.zero_()
    made.generator.register_forward_hook(lambda module, given, images: samples.append(images.detach()))
    made.critic.register_forward_pre_hook(lambda module, given: calls.append([given[0].detach()]))
    norm.register_forward_pre_hook(lambda module, given: calls[-1].append(given[0].detach().mean((0, 2, 3))))
    closures.critic(), closures.generator()
    expected, counts = torch.zeros(2, norm.num_features, dtype=torch.float64), [0, 0]
    for x, mean in calls:
        row = 0 if torch.equal(x, closures._images) else 1 if any(torch.equal(x, y) for y in samples) else None
        if row is not None:
            expected[row] += 0.1 * (mean - expected[row])
            counts[row] += 1
    torch.testing.assert_close(norm.running_mean, expected)
    assert counts == [2 if loss == "relativistic_pairing" else 1, 2]
    assert len(calls) == sum(counts) + ("wgan-gp" in penalty)


def test_unrolling_judges_samples_by_their_statistics(state):
    made = state(critic_norm="split-batch")
    made.critic.eval()
    (norm,) = norms(made.critic)
    nn.init.normal_(norm.running_mean)
    images, latents, loss = made.next_batch().images, made.next_latents(), LOSSES["hinge"]
    found = unrolled_objective(made, loss, images, latents, 2)
    samples = made.generator(latents)

    def of_samples(critic):
        with fake_statistics(made.critic):
            return critic(samples)

    expected = unrolled_generator_loss(
        made.critic,
        critic_loss=lambda critic: loss.critic(critic(images), of_samples(critic)),
        generator_loss=lambda critic: loss.generator(of_samples(critic), None),
        steps=2,
        optimizer=Adam.continuing(made.critic_optimizer, made.critic),
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    "chosen",
    [
        {"critic_norm": "none", "loss": "hinge"},
        {"critic_norm": "batch-renorm", "penalty": "r1:1", "spectral_norm": True},
        {"critic_norm": "split-batch", "unroll": 1, "conditional": "projection"},
        {"critic_norm": "split-batch", "optimizer": "consensus", "penalty": "r2:1"},
        {
            "critic_norm": "virtual-batch",
            "pack": 2,
            "penalty": "wgan-gp:1",
            "instance_noise": 0.1,
            "instance_noise_steps": 4,
        },
        {"critic_norm": "virtual-batch", "conditional": "projection", "spectral_norm": True},
        {"critic_norm": "virtual-batch", "unroll": 1},
        {"critic_norm": "virtual-batch", "loss": "ebgan", "pulling_away": 0.1},
    ],
    ids=str,
)
def test_a_resumed_run_goes_on_bit_for_bit(chosen, resumed):
    run = resumed(**{**DCGAN, **chosen})
    assert load_generator(run).sample(3).isfinite().all()


def test_the_reference_batch_lies_in_the_checkpoint(tiny):
    config = tiny(**DCGAN, critic_norm="virtual-batch")
    tensors, _ = read_checkpoint(train(config, quiet=True).checkpoint)
    assert tensors["critic.images"].shape == (8, 1, 8, 8)
    with pytest.raises(UserError, match=r"--critic-norm is 'batch', but the run was started with 'virtual-batch'"):
        resume(config.out, quiet=True, steps=7, critic_norm="batch")


def test_spectral_norms_are_those_of_the_critic_inside(state):
    made = state(critic_norm="virtual-batch", spectral_norm=True, pack=2)
    packed = made.critic
    assert [len(x._forward_pre_hooks) for x in (packed, packed.critic, packed.critic.critic)] == [0, 0, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"critic_norm": "layer"},
            "--critic-norm is 'layer', expected one of none, batch, batch-renorm, virtual-batch",
        ),
        (
            {"critic_norm": "none", "preset": "digits-resnet"},
            "--critic-norm is 'none', expected nothing: the critic of d",
        ),
    ],
)
def test_what_cannot_be(changes, message, tmp_path):
    with pytest.raises(UserError, match=message):
        TrainConfig.for_preset(**{"preset": "dcgan", "out": tmp_path / "run", **changes})
