"""One step's gradients in runs with classes, against the papers' formulas written out with autograd."""

import pytest
import torch
from scipy.stats import chisquare
from sklearn.datasets import load_digits

from fastgan.data import Images, load
from fastgan.losses import LOSSES
from fastgan.ops import interpolate
from fastgan.penalties import parse
from fastgan.train.closures import Closures, critic_objective, generator_objective
from fastgan.train.labels import Labels
from fastgan.train.look_ahead import unrolled_objective
from fastgan.train.regularisation import NO_REGULARISATION
from fastgan.train.state import TrainState, seeds
from fastgan.train.step import train_step

REAL, FAKE = torch.tensor([3, 0, 9, 3, 1, 7, 7, 2]), torch.tensor([5, 5, 1, 0, 8, 2, 4, 6])


@pytest.fixture
def state(tiny):
    """Makes the state of a run in float64, the critic without dropout and noise; every one is the same."""

    def make(conditional, preset="digits-resnet", penalty="none", **changes):
        config = tiny(preset=preset, conditional=conditional, penalty=penalty, batch_size=8, **changes)
        made = TrainState(config, load("digits", 8, 1), torch.device("cpu"))
        made.generator.double(), made.critic.double().eval()
        return made

    return make


def drawn(made):
    return made.next_batch().images.double(), made.next_latents().double()


def assert_same_gradients(value, network, expected):
    found = torch.autograd.grad(value, list(network.parameters()), retain_graph=True, allow_unused=True)
    wanted = torch.autograd.grad(expected, list(network.parameters()), retain_graph=True, allow_unused=True)
    torch.testing.assert_close(value.detach().as_subclass(torch.Tensor), expected.detach(), rtol=1e-9, atol=1e-12)
    assert sum(g is not None and g.abs().max() > 1e-12 for g in wanted) >= len(wanted) - 2
    for ours, textbook in zip(found, wanted, strict=True):
        assert (ours is None) == (textbook is None)
        if ours is not None:
            torch.testing.assert_close(ours, textbook, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("penalty", ["none", "r1:1,r2:3", "wgan-gp:10"])
@pytest.mark.parametrize("preset", ["digits-dcgan", "digits-resnet"])
@pytest.mark.parametrize("loss", ["hinge", "relativistic_pairing"])
def test_projection(loss, preset, penalty, state):
    made, objective = state("projection", preset), LOSSES[loss]
    images, latents = drawn(made)
    torch.manual_seed(3)  # of the interpolation weights
    total, step = critic_objective(made, objective, images, latents, parse(penalty), labels=Labels(REAL, FAKE))

    def judge(x, labels):
        phi = made.critic.critic.features(x)
        phi = phi.mean((2, 3)) if preset == "digits-resnet" else phi
        return made.critic.critic.head(phi) + torch.einsum("bf,bf->b", made.critic.embed.weight[labels], phi)[:, None]

    samples = made.generator(latents, FAKE)
    expected = objective.critic(judge(images, REAL), judge(samples.detach(), FAKE))
    for part in parse(penalty):
        torch.manual_seed(3)
        points, labels, weight = {
            "r1": lambda: (images.clone(), REAL, 1 / 2),
            "r2": lambda: (samples.detach().clone(), FAKE, 3 / 2),
            "wgan-gp": lambda: (interpolate(images, samples.detach(), torch.randint(2**62, (1,))), REAL, 10),
        }[part.name]()
        points.requires_grad_()
        (g,) = torch.autograd.grad(judge(points, labels).sum(), points, create_graph=True)
        norms = g.flatten(1).square().sum(1).sqrt()
        expected = expected + weight * ((norms - 1) if part.name == "wgan-gp" else norms).square().mean()
    assert_same_gradients(total, made.critic, expected)
    if penalty != "none" and preset == "digits-resnet":
        assert step.method == "one pass"

    value = generator_objective(made, objective, images, latents, Labels(REAL, FAKE))
    assert_same_gradients(value, made.generator, objective.generator(judge(samples, FAKE), judge(images, REAL)))


def cross_entropy(logits, labels):
    """-log of the softmax at the labels, by hand."""
    return -(logits.gather(1, labels[:, None])[:, 0] - logits.exp().sum(1).log()).mean()


@pytest.mark.parametrize("preset", ["digits-dcgan", "digits-resnet"])
@pytest.mark.parametrize("weight", [1, 0.25])
def test_auxiliary_classifier(weight, preset, state):
    made = state("auxiliary-classifier" if weight == 1 else f"auxiliary-classifier:{weight}", preset)
    images, latents = drawn(made)
    loss = LOSSES["relativistic_pairing"]
    total, _ = critic_objective(made, loss, images, latents, labels=Labels(REAL, FAKE))
    samples = made.generator(latents, FAKE)
    (real, of_real), (fake, of_fake) = (made.critic(x).split([1, 10], dim=1) for x in (images, samples))
    classes = cross_entropy(of_real, REAL) + cross_entropy(of_fake, FAKE)
    assert_same_gradients(total, made.critic, (1 + (fake - real).exp()).log().mean() + weight * classes)

    value = generator_objective(made, loss, images, latents, Labels(REAL, FAKE))
    expected = (1 + (real - fake).exp()).log().mean() + weight * cross_entropy(of_fake, FAKE)
    assert_same_gradients(value, made.generator, expected)


@pytest.mark.parametrize("preset", ["digits-dcgan", "digits-resnet"])
def test_semi_supervised(preset, state):
    """n + 1 classes, of which the last has the logit 0, by the probabilities of their softmax."""
    made = state("semi-supervised", preset)
    images, latents = drawn(made)
    loss, labels = LOSSES["nonsaturating"], Labels(REAL, made.next_labels())
    total, _ = critic_objective(made, loss, images, latents, labels=labels)
    real, fake = (
        torch.cat([made.critic(x), x.new_zeros(8, 1)], 1).softmax(1) for x in (images, made.generator(latents))
    )
    of_the_ten = real.gather(1, REAL[:, None])[:, 0] / real[:, :10].sum(1)
    expected = -of_the_ten.log().mean() - (1 - real[:, 10]).log().mean() - fake[:, 10].log().mean()
    assert_same_gradients(total, made.critic, expected)
    value = generator_objective(made, loss, images, latents, labels)
    assert_same_gradients(value, made.generator, -(1 - fake[:, 10]).log().mean())


@pytest.mark.parametrize("optimizer", ["alternating", "consensus"])
@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("auxiliary-classifier", lambda outputs: outputs[:, 0]),
        ("semi-supervised", lambda outputs: outputs.exp().sum(1).log()),
    ],
)
def test_penalties_of_critics_of_classes(kind, number, optimizer, state):
    """Of the gradient of the logit of being data alone, whatever the classes."""
    made = state(kind, optimizer=optimizer)
    images, latents = drawn(made)
    labels = Labels(REAL, FAKE if kind == "auxiliary-classifier" else None)
    loss = LOSSES["nonsaturating"]
    total, step = critic_objective(made, loss, images, latents, parse("r1:2,r2:3"), labels=labels)
    expected, _ = critic_objective(made, loss, images, latents, labels=labels)
    samples = made.generator(latents, *(() if labels.fake is None else (labels.fake,)))
    for name, points, weight in (("r1", images, 1), ("r2", samples, 1.5)):
        points = points.detach().requires_grad_()
        (g,) = torch.autograd.grad(number(made.critic(points)).sum(), points, create_graph=True)
        squares = g.square().sum((1, 2, 3))
        torch.testing.assert_close(step.gradient_norms[name], squares.sqrt().detach(), rtol=1e-9, atol=1e-12)
        expected = expected + weight * squares.mean()
    assert_same_gradients(total, made.critic, expected)


def test_what_the_critic_minimises_is_the_same_for_methods_of_either_order(state):
    """The value and its gradient, with penalties on data, samples and points between, each with its own labels."""
    found = {}
    for name in ("alternating", "consensus"):
        made = state("projection", optimizer=name)
        images, latents = drawn(made)
        torch.manual_seed(5)
        penalties = parse("r1:1,r2:3,wgan-gp:10")
        total, _ = critic_objective(made, LOSSES["hinge"], images, latents, penalties, 2, Labels(REAL, FAKE))
        total.backward()
        found[name] = [total.detach().as_subclass(torch.Tensor), *(p.grad for p in made.critic.parameters())]
    torch.testing.assert_close(*found.values(), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("optimizer", ["consensus", "extragradient", "competitive:1e-3:3", "variance-reduced"])
def test_other_games_move_the_embeddings_of_both_players(optimizer, tiny):
    config = tiny(preset="digits-resnet", conditional="projection", optimizer=optimizer, batch_size=8)
    pixels, labels = torch.rand(16, 1, 8, 8), torch.arange(16) % 3
    made = TrainState(config, Images("three", pixels, labels, ("a", "b", "c")), torch.device("cpu"))
    tables = [made.critic.embed.weight, made.generator.embed.weight]
    before = [table.detach().clone() for table in tables]
    for _ in range(2):
        step = train_step(made, config.regularisation)
    assert all(value.isfinite() for value in step.losses.values())
    assert all((table != old).any() for table, old in zip(tables, before, strict=True))


@pytest.mark.parametrize("optimizer", ["alternating", "consensus"])
def test_labels_are_drawn_with_the_latents(optimizer, tiny):
    """Anew for the generator's update, but for games that are of one batch; the data's labels stay."""
    config = tiny(conditional="projection", penalty="none", optimizer=optimizer, loss="relativistic_pairing")
    made, twin = (TrainState(config, load("digits", 8, 1), torch.device("cpu")) for _ in range(2))
    samples, judged = [], []
    made.generator.register_forward_pre_hook(lambda _, given: samples.append(given))
    made.critic.register_forward_pre_hook(lambda _, given: judged.append(given[1]))
    closures = Closures(made, NO_REGULARISATION)
    closures.critic(), closures.generator()

    real = twin.next_batch().labels
    first, second = ((twin.next_latents(), twin.next_labels()) for _ in range(2))
    of_generator = first if optimizer == "consensus" else second
    for found, expected in zip([*samples[0], *samples[1]], [*first, *of_generator], strict=True):
        assert torch.equal(found, expected)
    for found, expected in zip(judged, [real, first[1], of_generator[1], real], strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("kind", ["projection", "auxiliary-classifier", "semi-supervised"])
def test_unrolling_looks_at_the_same_labels(kind, state):
    """A critic that hardly moves is the critic as it is, and its step is on the data and the samples with theirs."""
    made = state(kind, lr_critic=1e-30)
    images, latents = drawn(made)
    labels, loss = Labels(REAL, FAKE if kind != "semi-supervised" else None), LOSSES["hinge"]
    expected = generator_objective(made, loss, images, latents, labels)
    told = []
    made.critic.register_forward_pre_hook(lambda _, given: told.append([x.tolist() for x in given[1:]]))
    found = unrolled_objective(made, loss, images, latents, 1, labels)
    assert_same_gradients(found, made.generator, expected)
    assert told == ([[REAL.tolist()], [FAKE.tolist()], [FAKE.tolist()]] if kind == "projection" else [[], [], []])


def test_labels_come_with_their_images(tiny):
    made = TrainState(tiny(conditional="projection", batch_size=600), load("digits", 8, 1), torch.device("cpu"))
    bunch = load_digits()
    label_of = {image.tobytes(): int(label) for image, label in zip(bunch.images, bunch.target, strict=True)}
    batches = [*(made.next_batch() for _ in range(3)), *made.every_batch()]
    assert len(batches) == 5
    for images, labels in batches:
        expected = [label_of[((image[0].double() + 1) * 8).numpy().tobytes()] for image in images]
        assert labels.tolist() == expected


def test_labels_of_samples_are_as_frequent_as_those_of_the_data(tiny):
    labels = torch.repeat_interleave(torch.arange(4), torch.tensor([3, 90, 27, 180]))
    images = Images("uneven", torch.zeros(300, 1, 8, 8), labels, tuple("abcd"))
    made = TrainState(tiny(conditional="projection", batch_size=300), images, torch.device("cpu"))
    counts = torch.cat([made.next_labels() for _ in range(100)]).bincount(minlength=4)
    assert chisquare(counts, [300, 9000, 2700, 18000]).pvalue > 1e-4


def test_the_other_random_streams_are_those_of_a_run_without_classes(tiny):
    of_old = seeds(7, 4)  # weights, order, latents, layers
    assert seeds(7, 5)[:4] == of_old
    images = load("digits", 8, 1)
    plain, told = (
        TrainState(tiny(conditional=kind, seed=7), images, torch.device("cpu")) for kind in ("", "projection")
    )
    latents = torch.Generator().manual_seed(of_old[2])
    for _ in range(3):
        assert plain.next_labels() is None
        assert told.next_labels().shape == (16,)
        found, expected = told.next_latents(), torch.randn(16, 64, generator=latents)
        assert torch.equal(plain.next_latents(), expected)
        assert torch.equal(found, expected)
        (images, none), (same, labels) = plain.next_batch(), told.next_batch()
        assert torch.equal(images, same)
        assert none is None
        assert labels.shape == (16,)
    for made in (plain, told):
        with made.layer_randomness():
            assert torch.initial_seed() == of_old[3]
    assert not any(name.startswith("random.labels") for name in plain.tensors())
