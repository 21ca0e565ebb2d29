"""Critics that return maps, lists, tuples and dicts, against a textbook that is written for each by hand."""

import copy
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fastgan
from fastgan.affine import Tape
from fastgan.losses.structure import tensors_of
from fastgan.penalties import DRAGAN, R1, R2, WGANGP
from tests.penalties.common import METHODS
from tests.penalties.critics import gradients, relative_error
from tests.penalties.several import KINDS, textbook
from tests.rotation import in_turn

pytestmark = pytest.mark.usefixtures("one_thread")

LOSSES = {
    "nonsaturating": lambda r, f: F.softplus(-r).mean() + F.softplus(f).mean(),
    "hinge": lambda r, f: F.relu(1 - r).mean() + F.relu(1 + f).mean(),
    "least_squares": lambda r, f: 0.5 * ((r - 1).square().mean() + f.square().mean()),
    "wasserstein": lambda r, f: f.mean() - r.mean(),
    "relativistic_pairing": lambda r, f: F.softplus(f - r).mean(),
}
PENALTIES = {
    "none": {},
    "r1": {"r1": 2.0},
    "r2": {"r2": 2.0},
    "both": {"r1": 2.0, "r2": 1.0},
    "wgan-gp": {"wgan-gp": 1.0},
    "all": {"r1": 2.0, "r2": 1.0, "wgan-gp": 1.0, "dragan": 0.5},
}
MADE = {"r1": R1, "r2": R2, "wgan-gp": WGANGP, "dragan": DRAGAN}


def made(penalties):
    return [MADE[name](weight) for name, weight in penalties.items()]


def summed(kind, loss):
    return lambda real, fake: sum(loss(r, f) for r, f in zip(kind.judged(real), kind.judged(fake), strict=True))


def build(kind):
    critic = kind.build().double()
    real, fake = torch.randn(2, 3, *kind.shape).double()
    return critic, real, 0.7 * fake + 0.1, torch.arange(3) if kind.labels else None


def without_gradient(critic):
    return {name for name, p in critic.named_parameters() if p.grad is None}


def compare(kind, loss, penalties, *, given=None, reduce="sum", calls=1, **options):
    """The relative error of the last of some calls; `loss` by hand, `given` as critic_loss is told."""
    critic, real, fake, labels = build(kind)
    other = copy.deepcopy(critic)
    rest = () if labels is None else (labels,)
    for _ in range(calls):
        seed = torch.randint(2**31, ()).item()
        torch.manual_seed(seed)
        expected, outputs = textbook(kind, other, real, fake, rest, loss, penalties, reduce)
        truth = gradients(other, expected)
        torch.manual_seed(seed)
        found = fastgan.critic_loss(
            critic,
            real,
            fake,
            loss=loss if given is None else given,
            penalties=made(penalties),
            labels=labels,
            judge=kind.judge,
            reduce=reduce,
            **options,
        )
        torch.testing.assert_close(torch.Tensor(found.detach()), expected.detach(), rtol=1e-11, atol=1e-12)
        for logits, output in zip((found.real_logits, found.fake_logits), outputs, strict=True):
            for a, b in zip(tensors_of(logits), kind.judged(output), strict=True):
                assert not a.requires_grad
                torch.testing.assert_close(a, b.detach())
        error = relative_error(gradients(critic, found), truth)
        assert error <= 1e-10, error
        # Zeros in the place of None would let weight decay move what has no part in the loss.
        assert without_gradient(other) <= without_gradient(critic)
    return found


@pytest.mark.parametrize("penalties", in_turn(list(PENALTIES), "penalties of maps", 2))
@pytest.mark.parametrize("method", [*METHODS, "auto"])
@pytest.mark.parametrize("kind", in_turn(list(KINDS), "kinds of maps", 6))
def test_they_equal_the_textbook(kind, method, penalties):
    kind = KINDS[kind]
    if method == "one_pass" and not kind.affine:
        with pytest.raises(fastgan.NotAffineError, match=r"norm|reduced|not known"):
            compare(kind, summed(kind, LOSSES["hinge"]), {"r1": 1.0}, given="hinge", method=method)
        return
    loss = summed(kind, LOSSES["hinge"])
    found = compare(kind, loss, PENALTIES[penalties], given="hinge", method=method, calls=2)
    expected = (
        "double_backward" if method == "double_backward" or not (kind.affine or penalties == "none") else "one_pass"
    )
    assert found.method == expected


@pytest.mark.parametrize("reduce", ["sum", "mean"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", in_turn(["patchgan", "multi-scale", "multi-period", "u-net", "labels"], "maps", 2))
def test_every_loss_is_added_up(kind, loss, reduce):
    kind = KINDS[kind]
    for method in METHODS:
        compare(kind, summed(kind, LOSSES[loss]), {"r1": 1.0, "r2": 3.0}, given=loss, method=method, reduce=reduce)


# --- a function is given everything -----------------------------------------------------------------------------------


def l1(a, b):
    return (a - b).abs().mean()


FUNCTIONS = {
    "the logits alone": ("a dict", lambda r, f: LOSSES["hinge"](r["logit"], f["logit"])),
    "classes beside": (
        "a dict",
        lambda r, f: LOSSES["hinge"](r["logit"], f["logit"])
        + F.cross_entropy(r["classes"], torch.arange(3)) + F.cross_entropy(f["classes"], torch.arange(3)),
    ),
    "features beside": ("features", lambda r, f: F.softplus(f[0] - r[0]).mean() - 0.1 * l1(r[1], f[1])),
    "feature maps of periods": (
        "multi-period",
        lambda r, f: sum(LOSSES["least_squares"](a, b) for a, b in zip(r[0], f[0], strict=True))
        + sum(l1(a, b) for x, y in zip(r[1], f[1], strict=True) for a, b in zip(x, y, strict=True)),
    ),
    "not what is judged": ("u-net's map", lambda r, f: LOSSES["hinge"](r[0], f[0])),
    "some of what is judged": ("several of a dict", lambda r, f: LOSSES["hinge"](r["logit"], f["logit"])),
    "nothing": ("u-net", lambda r, f: torch.zeros((), dtype=torch.float64)),
}  # fmt: skip


@pytest.mark.parametrize("penalties", [{"r1": 2.0, "r2": 1.0}, {"r1": 1.0, "wgan-gp": 1.0}])
@pytest.mark.parametrize("method", [*METHODS, "auto"])
@pytest.mark.parametrize("loss", FUNCTIONS)
def test_a_function_may_use_any_output(loss, method, penalties):
    kind, function = FUNCTIONS[loss]
    found = compare(KINDS[kind], function, penalties, method=method, calls=2)
    assert found.method == ("double_backward" if method == "double_backward" else "one_pass")


def test_an_extra_head_that_is_no_tensor_of_samples(seed):
    """A number of the whole batch, and one that is not affine: double backward has no condition."""

    class Extra(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.logit = nn.Linear(6, 8), nn.Linear(8, 1)

        def forward(self, x):
            h = F.leaky_relu(self.stem(x), 0.2)
            return {"logit": self.logit(h), "spread": h.std(0).mean(), "note": "text", "size": len(x)}

    critic, (real, fake) = Extra().double(), torch.randn(2, 5, 6).double()
    other = copy.deepcopy(critic)

    def loss(r, f):
        assert r["note"] == "text"
        return LOSSES["hinge"](r["logit"], f["logit"]) + r["spread"] / f["size"]

    x = real.clone().requires_grad_()
    out = other(x)
    (g,) = torch.autograd.grad(out["logit"].sum(), x, create_graph=True)
    truth = gradients(other, loss(out, other(fake)) + 0.5 * g.square().sum(1).mean())
    found = fastgan.critic_loss(critic, real, fake, loss=loss, penalties=(R1(1.0),), judge="logit")
    assert relative_error(gradients(critic, found), truth) <= 1e-10
    assert found.method == "double_backward"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("reduce", ["sum", "mean"])
@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.affine])
def test_a_penalty_alone(kind, reduce, method):
    kind = KINDS[kind]
    critic, real, _, labels = build(kind)
    other = copy.deepcopy(critic)
    rest = () if labels is None else (labels,)
    nothing = lambda *_: torch.zeros((), dtype=torch.float64)  # noqa: E731
    truth = gradients(other, textbook(kind, other, real, real, rest, nothing, {"r1": 2.0}, reduce)[0])
    found = fastgan.gradient_penalty(
        critic, real, R1(2.0), labels=labels, judge=kind.judge, reduce=reduce, method=method
    )
    assert relative_error(gradients(critic, found), truth) <= 1e-10
    assert len(tensors_of(found.real_logits)) == len(kind.judged(other(real, *rest)))


# --- what has to be named ---------------------------------------------------------------------------------------------


def returning(form):
    """A critic whose output is a function of eight numbers."""
    head = nn.Linear(6, 8).double()
    return lambda x: form(F.leaky_relu(head(x), 0.2))


UNCLEAR = {
    "features beside": lambda h: (h[:, :1], h[:, 1:]),
    "features beside, no dimension": lambda h: (h[:, 0], h[:, 1:]),
    "a map beside vectors": lambda h: [h[:, :4].reshape(-1, 2, 2), h[:, 4:]],
    "a list beside": lambda h: ([h[:, :1], h[:, 1:2]], [[h.reshape(-1, 2, 4)]]),
    "a dict": lambda h: {"logit": h[:, :1]},
    "a dict in a list": lambda h: [{"logit": h[:, :1], "features": h}],
    "nothing": lambda h: None,
    "an empty tuple": lambda h: (),
    "a number": lambda h: 1.0,
}
CLEAR = {
    "a tuple of one": lambda h: (h[:, :1],),
    "vectors": lambda h: [h[:, :2], h[:, 2:]],
    "numbers": lambda h: [h[:, 0], h[:, 1:2], h[:, 2:4].unsqueeze(1)],
    "lists in lists": lambda h: [[h[:, :1]], (h[:, 1:2], [h[:, 2:3]])],
}


@pytest.mark.parametrize("method", ["auto", *METHODS])
@pytest.mark.parametrize("kind", UNCLEAR)
def test_an_unclear_output_says_how_to_name_it(kind, method):
    real, fake = torch.randn(2, 3, 6).double()
    critic = returning(UNCLEAR[kind])
    for penalties in ((R1(1.0),), ()):
        with pytest.raises(
            (TypeError, fastgan.NotAffineError), match=r"it returned .* expected a tensor, or a list.*judge=0"
        ):
            fastgan.critic_loss(critic, real, fake, penalties=penalties, method=method)


@pytest.mark.parametrize("kind", CLEAR)
def test_lists_of_maps_need_no_name(kind):
    real, fake = torch.randn(2, 3, 6).double()
    found = fastgan.critic_loss(returning(CLEAR[kind]), real, fake, loss="hinge")
    assert found.method == "one_pass"


@pytest.mark.parametrize(
    ("judge", "error", "message"),
    [
        (2, ValueError, "judge is 2, which is not in what the critic returned: a tuple of"),
        ("logit", ValueError, "judge is 'logit', which is not in"),
        (lambda y: y[0].long(), TypeError, "what is judged is .*expected floating-point tensors"),
        (lambda y: [], TypeError, "what is judged is a list of"),
        (lambda y: None, TypeError, "what is judged is None"),
        (lambda y: y[0].sum(), TypeError, "what is judged is"),
    ],
)
def test_what_is_named_has_to_be_there(judge, error, message):
    real, fake = torch.randn(2, 3, 6).double()
    critic = returning(UNCLEAR["features beside"])
    for method in ("auto", "double_backward"):
        with pytest.raises(error, match=message):
            fastgan.critic_loss(critic, real, fake, judge=judge, method=method)
    with pytest.raises(error, match=message):
        fastgan.gradient_penalty(critic, real, R1(1.0), judge=judge)


def test_a_named_tuple_has_its_fields():
    class Answer(NamedTuple):
        logit: torch.Tensor
        features: torch.Tensor

    real, fake = torch.randn(2, 3, 6).double()
    critic = returning(lambda h: Answer(h[:, :1], h[:, 1:]))
    by_name, by_index = (
        fastgan.critic_loss(critic, real, fake, loss=lambda r, f: l1(r.features, f.features) + r.logit.mean(), judge=of)
        for of in ("logit", 0)
    )
    assert torch.equal(by_name.detach(), by_index.detach())
    assert by_name.method == "one_pass"


def test_reduce_is_one_of_two():
    real, fake = torch.randn(2, 3, 6)
    for call in (
        lambda: fastgan.critic_loss(nn.Linear(6, 1), real, fake, reduce="max"),
        lambda: fastgan.gradient_penalty(nn.Linear(6, 1), real, R1(1.0), reduce="max"),
    ):
        with pytest.raises(ValueError, match="reduce is 'max', expected one of sum, mean"):
            call()


def test_a_critic_of_one_number_takes_four_passes_also_beside_features(monkeypatch):
    """Features that the loss leaves out cost nothing but their copy; features that it uses, two passes."""
    passes = []
    for name in ("gradient", "weight_gradients"):
        function = getattr(Tape, name)
        monkeypatch.setattr(Tape, name, lambda *a, f=function, n=name, **k: (passes.append(n), f(*a, **k))[1])
    real, fake = torch.randn(2, 3, 6).double()
    critic = returning(UNCLEAR["features beside"])
    four = ["gradient", "gradient", "weight_gradients", "weight_gradients"]
    for loss in ("hinge", lambda r, f: LOSSES["hinge"](r[0], f[0])):
        passes.clear()
        total = fastgan.critic_loss(critic, real, fake, loss=loss, penalties=(R1(1.0), R2(1.0)), judge=0)
        total.backward()
        assert passes == four


class OverwrittenFeatures(nn.Module):
    """Its features have been changed through another view, which recording does not follow."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = F.leaky_relu(x, 0.2)
        features = h.view(len(h), -1)
        h /= 2
        return self.layer(x).squeeze(1), features


@pytest.mark.parametrize(("penalties", "method"), [((WGANGP(10.0),), "one_pass"), ((R1(1.0),), "double_backward")])
def test_points_in_no_loss_are_asked_for_what_is_judged_alone(penalties, method):
    critic, (real, fake) = OverwrittenFeatures().double(), torch.randn(2, 3, 6).double()
    total = fastgan.critic_loss(
        critic, real, fake, loss=lambda r, f: LOSSES["hinge"](r[0], f[0]), penalties=penalties, judge=0
    )
    assert total.method == method


class Beside(nn.Module):
    """Outputs that autograd does not join to the samples, beside one that it does."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.trunk, self.head, self.probe = nn.Linear(6, 5), nn.Linear(5, 1), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = F.leaky_relu(self.trunk(x), 0.2)
        if self.kind == "a probe of detached features":
            other = self.probe(h.detach())
        elif self.kind == "a probe of features under no_grad":
            with torch.no_grad():
                features = F.leaky_relu(self.trunk(x), 0.2)
            other = self.probe(features)
        elif self.kind == "of parameters alone":
            other = self.probe.weight.exp().sum(1).expand(len(x), 3)
        else:
            other = self.probe.weight
        return self.head(h).squeeze(1), other


BESIDE = ["a probe of detached features", "a probe of features under no_grad", "of parameters alone", "a parameter"]


@pytest.mark.parametrize("compile", [False, "aot_eager"])
@pytest.mark.parametrize("penalties", [{"r1": 2.0}, {"r1": 2.0, "r2": 1.0}])
@pytest.mark.parametrize("kind", BESIDE)
def test_outputs_beside_the_samples_have_their_gradient(kind, penalties, compile, fresh_dynamo):
    """Whether the loss uses them from the first step on, or only now and then."""
    torch.manual_seed(0)
    critic, (real, fake) = Beside(kind).double(), torch.randn(2, 3, 6).double()

    def alone(r, f):
        return LOSSES["nonsaturating"](r[0], f[0])

    def all_of_them(r, f):
        return alone(r, f) + r[1].sin().sum() + (f[1] * 0.3).cos().sum()

    made = tuple(MADE[name](weight) for name, weight in penalties.items())
    for loss in (all_of_them, alone, all_of_them, all_of_them):
        truth = gradients(critic, by_hand(critic, real, fake, loss, penalties))
        total = fastgan.critic_loss(
            critic, real, fake, loss=loss, penalties=made, judge=0, method="one_pass", compile=compile
        )
        assert relative_error(gradients(critic, total), truth) <= 1e-10


def by_hand(critic, real, fake, loss, penalties):
    outputs, total = [], 0.0
    for x, name in ((real, "r1"), (fake, "r2")):
        x = x.clone().requires_grad_()
        outputs.append(critic(x))
        (g,) = torch.autograd.grad(outputs[-1][0].sum(), x, create_graph=True)
        total = total + penalties.get(name, 0.0) / 2 * g.square().sum(1).mean()
    return total + loss(*outputs)


@pytest.mark.parametrize("method", ["auto", *METHODS])
@pytest.mark.parametrize("reduced", [lambda y: y.mean(), lambda y: [y.mean(0, keepdim=True)]])
def test_a_mean_over_the_samples_is_no_output(reduced, method):
    layer, (real, fake) = nn.Linear(6, 1).double(), torch.randn(2, 3, 6).double()
    with pytest.raises(
        (ValueError, TypeError, fastgan.NotAffineError),
        match=r"expected .*samples|expected \[3, ...\]|samples .* reduced",
    ):
        fastgan.critic_loss(lambda x: reduced(layer(x)), real, fake, method=method)
