"""Every pair of choices of a run: refused with a reason, or a step with finite losses, and after it finite networks."""

import itertools

import pytest

from fastgan.errors import UserError
from fastgan.games import GAMES
from fastgan.losses import LOSSES
from fastgan.tasks.conditioning import CONDITIONINGS
from tests.rotation import in_turn
from tests.train.steps import begun, recipe_of

pytestmark = pytest.mark.usefixtures("one_thread")
# One of every kind: of those that differ by a formula alone, the first.
KINDS = {
    (loss.output, loss.needs_real, type(loss), loss.witness is None): name for name, loss in reversed(LOSSES.items())
}
SETTINGS = {"competitive": "competitive:1e-3:2", "follow-the-ridge": "follow-the-ridge:1:1e-3:2"}  # fewer iterations
CHOICES = {
    "loss": [*KINDS.values(), "label_smoothing:0.9:nonsaturating", "feature_matching:hinge"],
    "penalty": ["r1:1,r2:1", "wgan-gp:1,dragan:1"],
    "game": [*(SETTINGS.get(name, name) for name in GAMES), "runge-kutta:4:1"],
    "unroll": [2],
    "pack": [2],
    "conditional": list(CONDITIONINGS),
    "path_length": [1.0],
    "spectral_norm": [True],
    "clip_weights": [0.1],
    "orthogonal": [1e-3],
    "instance_noise": [0.1],
    "penalty_every": [2],
    "precision": ["bfloat16"],
    "chunks": [2],
    "clip": [0.1],
}
PAIRS = list(itertools.combinations(CHOICES, 2))


@pytest.fixture(autouse=True)
def short_epochs(monkeypatch):
    """For variance reduction's snapshots."""
    monkeypatch.setattr(
        "fastgan.train.engine.TaskEngine.epoch", lambda self: [self._drawn(next(iter(self.reader.epoch())))]
    )


def small(**settings):
    """digits-dcgan of few channels."""
    critic = "{kind: dcgan, width: 4, features: 8, similarities: 4, kernel_dims: 2, dropout: 0.4, noise: 0.3}"
    networks = {"generator": "{kind: dcgan, latent_dim: 64, width: 4}", "critic": critic}
    return recipe_of("digits-dcgan", batch_size=4, **networks, **settings)


def takes_a_step(run):
    before = [p.detach().clone() for p in run.game.parameters]
    step = next(run)
    assert {"critic", "generator"} <= step.log.keys()
    assert all(value.isfinite().all() for value in (*step.log.values(), *step.losses))
    assert all(p.isfinite().all() for p in run.game.parameters)
    assert any((p != q).any() for p, q in zip(run.game.parameters, before, strict=True))


@pytest.mark.parametrize(("one", "other"), in_turn(PAIRS, "pairs", run=30), ids=map("-".join, PAIRS))
def test_every_pair(one, other):
    for values in itertools.product(CHOICES[one], CHOICES[other]):
        chosen = dict(zip((one, other), values, strict=True))
        try:
            run = begun(small(**chosen))
        except UserError as error:
            assert "expected " in str(error), chosen  # noqa: PT017 (either way is right)
            assert str(error).startswith(("task.", "game.", "run.")), chosen  # noqa: PT017
            continue
        try:
            takes_a_step(run)
        except Exception as error:
            raise AssertionError(f"{chosen} is neither refused nor trained") from error


@pytest.mark.parametrize("name", [name for name in CHOICES if name not in ("path_length", "penalty_every")])
def test_each_alone_is_trained(name):
    for value in CHOICES[name]:
        takes_a_step(begun(small(**{name: value})))


def test_what_is_refused_alone():
    for name in ("path_length", "penalty_every"):
        with pytest.raises(UserError, match=f"^task.{name} is "):
            begun(small(**{name: CHOICES[name][0]}))
