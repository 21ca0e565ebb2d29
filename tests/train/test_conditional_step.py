"""One step's gradients in runs with classes, against the papers' formulas written out with autograd."""

import pytest
import torch
from scipy.stats import chisquare
from sklearn.datasets import load_digits

from fastgan.data import Images
from fastgan.losses import LOSSES
from fastgan.ops import interpolate
from fastgan.penalties import parse
from fastgan.tasks import Batch
from tests.train.steps import begun, gradients, networks, recipe_of

pytestmark = pytest.mark.usefixtures("one_thread")
REAL, FAKE = torch.tensor([3, 0, 9, 3, 1, 7, 7, 2]), torch.tensor([5, 5, 1, 0, 8, 2, 4, 6])


def made(conditional, name="digits-resnet", **settings):
    """A run in float64, the critic without dropout and noise; every one is the same."""
    chosen = {"penalty": "", "batch_size": 8, **settings}
    run = begun(recipe_of(name, conditional=conditional, **chosen), torch.float64)
    run.task.critics.eval()
    return run


def drawn(run):
    """A batch with chosen labels; what it has of data and latents."""
    batch = run.engine.batch()
    labels = {"label": REAL, **({"fake_label": FAKE} if run.task.conditioning.tells_generator else {})}
    tensors = {**batch.tensors, **labels}
    return Batch(tensors, batch.key), tensors["image"], tensors["latent"]


def assert_same_gradients(run, side, batch, expected):
    network = run.task.side(side)
    if run.game.second_order:
        value = getattr(run.engine.losses(batch), side)
        found = torch.autograd.grad(value, list(network.parameters()), allow_unused=True)
    else:
        found, value = gradients(run, side, batch)
    wanted = torch.autograd.grad(expected, list(network.parameters()), retain_graph=True, allow_unused=True)
    torch.testing.assert_close(value.detach().as_subclass(torch.Tensor), expected.detach(), rtol=1e-9, atol=1e-12)
    assert sum(g is not None and g.abs().max() > 1e-12 for g in wanted) >= len(wanted) - 2
    for ours, textbook in zip(found, wanted, strict=True):
        assert (ours is None) == (textbook is None)
        if ours is not None:
            torch.testing.assert_close(ours, textbook, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("penalty", ["", "r1:1,r2:3", "wgan-gp:10"])
@pytest.mark.parametrize("recipe", ["digits-dcgan", "digits-resnet"])
@pytest.mark.parametrize("loss", ["hinge", "relativistic_pairing"])
def test_projection(loss, recipe, penalty):
    run, objective = made("projection", recipe, loss=loss, penalty=penalty), LOSSES[loss]
    batch, images, latents = drawn(run)
    generator, critic = networks(run)

    def judge(x, labels):
        phi = critic.critic.features(x)
        phi = phi.mean((2, 3)) if recipe == "digits-resnet" else phi
        return critic.critic.head(phi) + torch.einsum("bf,bf->b", critic.embed.weight[labels], phi)[:, None]

    samples = generator(latents, FAKE)
    expected = objective.critic(judge(images, REAL), judge(samples.detach(), FAKE))
    for part in parse(penalty):
        torch.manual_seed(batch.key)  # of the interpolation weights
        points, labels, weight = {
            "r1": lambda: (images.clone(), REAL, 1 / 2),
            "r2": lambda: (samples.detach().clone(), FAKE, 3 / 2),
            "wgan-gp": lambda: (interpolate(images, samples.detach(), torch.randint(2**62, (1,))), REAL, 10),
        }[part.name]()
        points.requires_grad_()
        (g,) = torch.autograd.grad(judge(points, labels).sum(), points, create_graph=True)
        norms = g.flatten(1).square().sum(1).sqrt()
        expected = expected + weight * ((norms - 1) if part.name == "wgan-gp" else norms).square().mean()
    assert_same_gradients(run, "critic", batch, expected)
    if penalty and recipe == "digits-resnet":
        assert run.task.remark == "gradient of the penalties: one pass"
    expected = objective.generator(judge(samples, FAKE), judge(images, REAL))
    assert_same_gradients(run, "generator", batch, expected)


def cross_entropy(logits, labels):
    """-log of the softmax at the labels, by hand."""
    return -(logits.gather(1, labels[:, None])[:, 0] - logits.exp().sum(1).log()).mean()


@pytest.mark.parametrize("recipe", ["digits-dcgan", "digits-resnet"])
@pytest.mark.parametrize("weight", [1, 0.25])
def test_auxiliary_classifier(weight, recipe):
    kind = "auxiliary-classifier" if weight == 1 else f"auxiliary-classifier:{weight}"
    run = made(kind, recipe, loss="relativistic_pairing")
    batch, images, latents = drawn(run)
    generator, critic = networks(run)
    samples = generator(latents, FAKE)
    (real, of_real), (fake, of_fake) = (critic(x).split([1, 10], dim=1) for x in (images, samples))
    classes = cross_entropy(of_real, REAL) + cross_entropy(of_fake, FAKE)
    assert_same_gradients(run, "critic", batch, (1 + (fake - real).exp()).log().mean() + weight * classes)
    expected = (1 + (real - fake).exp()).log().mean() + weight * cross_entropy(of_fake, FAKE)
    assert_same_gradients(run, "generator", batch, expected)


@pytest.mark.parametrize("recipe", ["digits-dcgan", "digits-resnet"])
def test_semi_supervised(recipe):
    """n + 1 classes, of which the last has the logit 0, by the probabilities of their softmax."""
    run = made("semi-supervised", recipe, loss="nonsaturating")
    batch, images, latents = drawn(run)
    generator, critic = networks(run)
    real, fake = (torch.cat([critic(x), x.new_zeros(8, 1)], 1).softmax(1) for x in (images, generator(latents)))
    of_the_ten = real.gather(1, REAL[:, None])[:, 0] / real[:, :10].sum(1)
    expected = -of_the_ten.log().mean() - (1 - real[:, 10]).log().mean() - fake[:, 10].log().mean()
    assert_same_gradients(run, "critic", batch, expected)
    assert_same_gradients(run, "generator", batch, -(1 - fake[:, 10]).log().mean())


@pytest.mark.parametrize("game", ["alternating", "consensus"])
@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("auxiliary-classifier", lambda outputs: outputs[:, 0]),
        ("semi-supervised", lambda outputs: outputs.exp().sum(1).log()),
    ],
)
def test_penalties_of_critics_of_classes(kind, number, game):
    """Of the gradient of the logit of being data alone, whatever the classes."""
    run, unpenalised = (made(kind, game=game, loss="nonsaturating", penalty=p) for p in ("r1:2,r2:3", ""))
    batch, images, latents = drawn(run)
    generator, critic = networks(run)
    of_plain, _ = gradients(unpenalised, "critic", batch)
    samples = generator(latents, *([FAKE] if kind == "auxiliary-classifier" else []))
    added, norms = 0, {}
    for name, points, weight in (("r1", images, 1), ("r2", samples, 1.5)):
        points = points.detach().requires_grad_()
        (g,) = torch.autograd.grad(number(critic(points)).sum(), points, create_graph=True)
        squares = g.square().sum((1, 2, 3))
        norms[name] = squares.sqrt().mean().detach()
        added = added + weight * squares.mean()
    extra = torch.autograd.grad(added, list(critic.parameters()), allow_unused=True)
    if game == "consensus":
        found = torch.autograd.grad(run.engine.losses(batch).critic, list(critic.parameters()))
    else:
        found, _ = gradients(run, "critic", batch)
    for ours, plain, more in zip(found, of_plain, extra, strict=True):
        expected = plain if more is None else plain + more
        torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-11)
    for name, norm in norms.items():
        torch.testing.assert_close(run.engine.log[f"gradient_norm_{name}"], norm, rtol=1e-9, atol=1e-12)


def test_what_the_critic_minimises_is_the_same_for_methods_of_either_order():
    """The value and its gradient, with penalties on data, samples and points between, each with its own labels."""
    found = []
    for game in ("alternating", "consensus"):
        run = made("projection", game=game, loss="hinge", penalty="r1:1,r2:3,wgan-gp:10", penalty_every=2)
        batch, _, _ = drawn(run)
        if game == "consensus":
            total = run.engine.losses(batch).critic
            grads = torch.autograd.grad(total, list(run.task.critics.parameters()))
        else:
            grads, total = gradients(run, "critic", batch)
        found.append([total.detach().as_subclass(torch.Tensor), *grads])
    torch.testing.assert_close(*found, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("game", ["consensus", "extragradient", "competitive:1e-3:3", "variance-reduced"])
def test_other_games_move_the_embeddings_of_both_players(game, monkeypatch):
    three = Images("three", torch.rand(16, 1, 8, 8), torch.arange(16) % 3, ("a", "b", "c"))
    monkeypatch.setattr("fastgan.recipes.data.load", lambda *_: three)
    run = begun(recipe_of("digits-resnet", conditional="projection", game=game, batch_size=8))
    tables = [network.embed.weight for network in networks(run)]
    before = [table.detach().clone() for table in tables]
    for _ in range(2):
        step = next(run)
    assert all(value.isfinite() for value in step.losses)
    assert all((table != old).any() for table, old in zip(tables, before, strict=True))


@pytest.mark.parametrize("game", ["alternating", "consensus"])
def test_labels_are_drawn_with_the_latents(game):
    """Anew for the generator's update, but for games that are of one batch; the data's labels stay."""
    run, twin = (
        begun(recipe_of("digits-dcgan", conditional="projection", game=game, loss="relativistic_pairing"))
        for _ in range(2)
    )
    samples, judged = [], []
    generator, critic = networks(run)
    generator.register_forward_pre_hook(lambda _, given: samples.append(given))
    critic.register_forward_pre_hook(lambda _, given: judged.append(given[1]))
    next(run)

    first = twin.engine.batch()
    second = first if game == "consensus" else twin.engine.again(first)
    of_first, of_second = ([b.tensors["latent"], b.tensors["fake_label"]] for b in (first, second))
    for found, expected in zip([*samples[0], *samples[1]], [*of_first, *of_second], strict=True):
        assert torch.equal(found, expected)
    real = first.tensors["label"]
    for found, expected in zip(judged, [real, of_first[1], of_second[1], real], strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("kind", ["projection", "auxiliary-classifier", "semi-supervised"])
def test_unrolling_looks_at_the_same_labels(kind):
    """A critic that hardly moves is the critic as it is, and its step is on the data and the samples with theirs."""
    run, plain = (made(kind, lr_critic=1e-30, unroll=steps, loss="hinge") for steps in (1, 0))
    batch, _, _ = drawn(run)
    expected, value = gradients(plain, "generator", batch)
    told = []
    networks(run)[1].register_forward_pre_hook(lambda _, given: told.append([x.tolist() for x in given[1:]]))
    found, unrolled = gradients(run, "generator", batch)
    torch.testing.assert_close(unrolled, value, rtol=1e-9, atol=1e-12)
    for ours, textbook in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, textbook, rtol=1e-8, atol=1e-11)
    assert told == ([[REAL.tolist()], [FAKE.tolist()], [FAKE.tolist()]] if kind == "projection" else [[], [], []])


def test_labels_come_with_their_images():
    run = begun(recipe_of("digits-dcgan", conditional="projection", batch_size=600))
    bunch = load_digits()
    label_of = {image.tobytes(): int(label) for image, label in zip(bunch.images, bunch.target, strict=True)}
    batches = [*(run.engine.batch() for _ in range(3)), *run.engine.epoch()]
    assert len(batches) == 5
    for batch in batches:
        expected = [label_of[((image[0].double() + 1) * 8).numpy().tobytes()] for image in batch.tensors["image"]]
        assert batch.tensors["label"].tolist() == expected


def test_labels_of_samples_are_as_frequent_as_those_of_the_data(monkeypatch):
    labels = torch.repeat_interleave(torch.arange(4), torch.tensor([3, 90, 27, 180]))
    uneven = Images("uneven", torch.zeros(300, 1, 8, 8), labels, tuple("abcd"))
    monkeypatch.setattr("fastgan.recipes.data.load", lambda *_: uneven)
    run = begun(recipe_of("digits-dcgan", conditional="projection", batch_size=300))
    drawn = torch.cat([run.engine.batch().tensors["fake_label"] for _ in range(100)])
    assert chisquare(drawn.bincount(minlength=4), [300, 9000, 2700, 18000]).pvalue > 1e-4
    asked = run.task.labels(30_000, seed=3)
    assert chisquare(asked.bincount(minlength=4), [300, 9000, 2700, 18000]).pvalue > 1e-4


def test_data_and_latents_are_those_of_a_run_without_classes():
    plain, told = (begun(recipe_of("digits-dcgan", conditional=kind, seed=7)) for kind in ("", "projection"))
    for _ in range(3):
        one, other = plain.engine.batch().tensors, told.engine.batch().tensors
        assert one.keys() | {"fake_label"} == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in ("image", "latent", "label"))
