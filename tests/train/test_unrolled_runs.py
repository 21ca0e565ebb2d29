"""Runs whose generator looks through steps of the critic, against finite differences of real steps of its optimiser."""

import copy

import pytest
import torch

from fastgan.errors import UserError
from fastgan.nn import BiasAct
from fastgan.tasks.labels import Labels, given
from tests.train.steps import begin, begun, networks, recipe_of, resumed

pytestmark = pytest.mark.usefixtures("one_thread")
K = 2


def smooth(**settings):
    """A run in float64 and with smooth activations, after two steps of it."""
    run = begun(recipe_of("digits-resnet", **{"penalty": "", "batch_size": 8, "unroll": K, **settings}), torch.float64)
    for network in networks(run):
        for layer in network.modules():
            if isinstance(layer, BiasAct) and layer.act == "lrelu":
                layer.act = "swish"  # finite differences would step over the kinks
    for _ in range(2):
        next(run)
    return begin(run)


def after_real_steps(run, batch):
    """The generator's loss after the critic's own optimiser made K steps on the batch, all on copies."""
    generator, critic = copy.deepcopy(networks(run))
    task, tensors = run.task, batch.tensors
    labels = Labels(tensors.get("label") if task.conditioning.name else None, tensors.get("fake_label"))
    loss, told = task.conditioning.with_labels(task.loss, labels)
    of_real, of_fake = given(told.real), given(told.fake)
    critics = run.game.critic.optimizer
    kind, group = type(critics), critics.param_groups[0]
    optimizer = kind(critic.parameters(), **{k: group[k] for k in ("lr", "betas") if k in group})
    optimizer.load_state_dict(copy.deepcopy(critics.state_dict()))
    samples = generator(tensors["latent"], *given(tensors.get("fake_label"))).detach()
    torch.manual_seed(batch.key)  # of the noise
    for _ in range(K):
        optimizer.zero_grad()
        loss.critic(critic(tensors["image"], *of_real), critic(samples, *of_fake)).backward()
        optimizer.step()
    with torch.no_grad():
        fake = critic(samples, *of_fake)  # first, as the noise is drawn
        return loss.generator(fake, critic(tensors["image"], *of_real) if loss.needs_real else None).item()


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "nonsaturating"},
        {"loss": "relativistic_pairing"},  # whose real logits depend on the generator through the critic's steps
        {"loss": "nonsaturating", "pack": 2, "instance_noise": 0.3},
        {"loss": "nonsaturating", "game": "runge-kutta", "lr_critic": 0.05},  # plain SGD
        {"loss": "relativistic_pairing", "conditional": "projection", "instance_noise": 0.3},
        {"loss": "nonsaturating", "conditional": "auxiliary-classifier"},
    ],
    ids=["Adam", "relativistic", "packs and noise", "SGD", "projection", "auxiliary classifier"],
)
def test_value_and_gradient_are_those_of_real_steps_of_the_critic(settings):
    run = smooth(**settings)
    parameters, batch = list(run.task.generators.parameters()), run.engine.batch()
    critics = run.game.critic.optimizer
    # Batch norm of the generator moves at every evaluation, that of the critic at none.
    before = copy.deepcopy((run.task.critics.state_dict(), critics.state_dict()["state"]))
    for p in run.task.critics.parameters():
        p.grad = None
    value = run.engine.gradient("generator", batch)
    found = [p.grad.clone() for p in parameters]
    assert all(p.requires_grad and p.grad is None for p in run.task.critics.parameters())
    torch.testing.assert_close((run.task.critics.state_dict(), critics.state_dict()["state"]), before, rtol=0, atol=0)
    assert value.item() == pytest.approx(after_real_steps(run, batch), rel=1e-9)
    assert run.engine.log["generator"].item() == value.item()

    torch.manual_seed(5)
    directions = [torch.randn_like(p) for p in parameters]
    numeric, h = 0.0, 1e-5
    for offset, weight in ((1, 8), (-1, -8), (2, -1), (-2, 1)):  # of fourth order
        with torch.no_grad():
            torch._foreach_add_(parameters, directions, alpha=offset * h)
        numeric += weight * after_real_steps(run, batch) / (12 * h)
        with torch.no_grad():
            torch._foreach_sub_(parameters, directions, alpha=offset * h)
    slope = sum((g * d).sum() for g, d in zip(found, directions, strict=True)).item()
    assert slope == pytest.approx(numeric, rel=1e-5)
    run.engine.parts = run.task.parts  # without looking ahead
    run.engine.gradient("generator", batch)
    plain = sum((p.grad * d).sum() for p, d in zip(parameters, directions, strict=True)).item()
    assert slope != pytest.approx(plain, rel=1e-2)


def test_batch_norm_of_the_generator_moves_once():
    """As without looking ahead, however many steps of the critic are looked through."""
    moved = []
    for steps in (0, 3):
        run = begun(recipe_of("digits-resnet", penalty="", unroll=steps, batch_size=8))
        run.engine.gradient("generator", run.engine.batch())
        moved.append({name: buffer.clone() for name, buffer in run.task.generators.named_buffers()})
    assert moved[0]
    for name, buffer in moved[0].items():
        torch.testing.assert_close(moved[1][name], buffer)


@pytest.mark.parametrize(
    "loss", ["hinge", "fgan:kl", "mmd", "sliced_wasserstein", "ebgan", "began", "feature_matching:hinge"]
)
def test_critics_of_every_kind_can_be_unrolled(loss):
    """With minibatch discrimination, dropout and noise; autoencoders with batch norm."""
    both_players_move(recipe_of("digits-dcgan", loss=loss, batch_size=8, spectral_norm=True, unroll=1))


def test_stylegan2_can_be_unrolled():
    """Beside its path lengths."""
    settings = {"penalty": "", "penalty_every": 1, "path_length": 1.0, "path_length_every": 1, "batch_size": 4}
    both_players_move(recipe_of("stylegan2-small", resolution=8, channels=1, unroll=1, **settings))


def test_both_critics_of_a_cyclegan_can_be_unrolled():
    networks = {
        "generator": "{kind: translation, width: 4, blocks: 1}",
        "critic": "{kind: patch, width: 4, halvings: 1}",
    }
    both_players_move(recipe_of("cycle-gan-small", resolution=16, batch_size=2, unroll=2, **networks))


def test_path_lengths_are_regularised_beside():
    """What the task follows moves, as it does without."""
    small = {
        "generator": "{kind: stylegan2, z_dim: 8, w_dim: 8, mapping_layers: 1, width: 32, max_width: 4}",
        "critic": "{kind: stylegan2, width: 32, max_width: 4}",
    }
    settings = {"resolution": 8, "batch_size": 4, "penalty": "", "penalty_every": 1, "path_length": 2.0, **small}
    for unroll in (0, 1):
        run = begun(recipe_of("stylegan2-small", path_length_every=1, unroll=unroll, **settings))
        step = next(run)
        assert step.log["penalty_path_length"] > 0
        assert run.task.path_length_mean == step.log["path_length_mean"] > 0


def both_players_move(recipe):
    run = begun(recipe)
    before = [p.detach().clone() for p in run.game.parameters]
    for _ in range(2):
        step = next(run)
    assert all(value.isfinite() for value in step.log.values())
    assert all(p.isfinite().all() for p in run.game.parameters)
    moved = [(p != q).any() for p, q in zip(run.game.parameters, before, strict=True)]
    assert sum(moved) >= len(moved) - 1  # the bias of a layer's features may cancel


def test_a_resumed_run_goes_on_bit_for_bit(tmp_path):
    """digits-dcgan: dropout and noise are drawn in every step of the critic that is looked through."""
    resumed(tmp_path, "digits-dcgan", unroll=2, game="alternating:2", spectral_norm=True, batch_size=8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"unroll": -1}, "game.unroll is -1, expected greater than or equal to 0"),
        ({"unroll": 5, "game": "consensus"}, "game.unroll is 5, expected 0: consensus differentiates whole losses"),
        ({"unroll": 5, "game": "runge-kutta:2:0.1"}, "game.unroll is 5, expected 0: runge-kutta:2:0.1 differentiates"),
        (
            {"unroll": 5, "penalty": "r1:1"},
            "game.unroll differentiates the critic's steps; expected no task.penalty",
        ),
        (
            {"unroll": 5, "clip_weights": 0.1},
            "game.unroll differentiates the critic's steps; expected no task.clip",
        ),
    ],
)
def test_what_cannot_be(settings, message):
    with pytest.raises(UserError, match=message):
        begun(recipe_of("digits-dcgan", **settings))
