"""Random critics, eligible or not: whatever one_pass accepts, and whatever auto does, equals the textbook in float64.

FASTGAN_EXAMPLES=5000 looks at more of them; a failure prints what reproduces it.
"""

import copy
import math
import os
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import fastgan
from fastgan import NotAffineError
from fastgan.penalties import R1, R2, WGANGP, CriticLoss
from tests.penalties.critics import gradients, relative_error, textbook
from tests.penalties.steps import CLASSES, INELIGIBLE, STEPS, Step

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]

EXAMPLES = int(os.environ.get("FASTGAN_EXAMPLES", 250))
PHASES = [Phase.explicit, Phase.generate, Phase.shrink]
COMMON = {
    "deadline": None,
    "print_blob": True,
    "derandomize": False,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}


LOSSES = {
    "nonsaturating": lambda r, f: F.softplus(-r).mean() + F.softplus(f).mean(),
    "hinge": lambda r, f: F.relu(1 - r).mean() + F.relu(1 + f).mean(),
    "wasserstein": lambda r, f: f.mean() - r.mean(),
    "relativistic_pairing": lambda r, f: F.softplus(f - r).mean(),
    "coupled": lambda r, f: (torch.cat([r, f]).softmax(0) ** 2).sum() + r.mean() * f.square().mean(),
}


class Critic(nn.Module):
    """Steps, and a head that makes a number (or, not eligible, a few) of what is left."""

    def __init__(self, steps: list[Step], shape: tuple[int, ...], head: str) -> None:
        super().__init__()
        self.steps, self.kind, self.shape = nn.ModuleList(steps), head, shape
        self.linear, self.embed = (
            nn.Linear(math.prod(shape), 2 if head == "two" else 1),
            nn.Embedding(CLASSES, shape[0]),
        )

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h = x
        for step in self.steps:
            h = step(h, y)
        if self.kind == "projection":
            return (h.flatten(2).sum(2) * self.embed(y)).sum(1) if h.ndim > 2 else (h * self.embed(y)).sum(1)
        d = self.linear(h.flatten(1))
        return d.squeeze(1) if self.kind == "vector" else d.sigmoid() if self.kind == "smooth" else d

    def __repr__(self) -> str:
        return f"{' -> '.join(map(repr, self.steps))} -> {self.kind} of {self.shape}"


@dataclass
class Case:
    critic: Critic
    samples: int
    shape: tuple[int, ...]
    seed: int
    loss: str
    r1: float
    r2: float
    wgan_gp: float
    target: float
    one_sided: bool
    layout: str
    frozen: list[str]

    @property
    def penalties(self) -> dict[str, float]:
        return {
            "r1": self.r1,
            "r2": self.r2,
            "wgan_gp": self.wgan_gp,
            "target": self.target,
            "one_sided": self.one_sided,
        }

    def batch(self) -> tuple[Tensor, Tensor, Tensor]:
        torch.manual_seed(self.seed)
        real, fake = torch.randn(self.samples, *self.shape).double(), torch.rand(self.samples, *self.shape).double()
        if self.layout == "transposed":
            real, fake = (
                real.transpose(1, -1).contiguous().transpose(1, -1),
                fake.movedim(0, -1).contiguous().movedim(-1, 0),
            )
        return real, fake, torch.randint(CLASSES, (self.samples,))


@st.composite
def cases(draw, names: tuple[str, ...], longest: int, heads: tuple[str, ...]) -> Case:
    torch.manual_seed(draw(st.integers(0, 2**16)))
    shape = draw(st.sampled_from([(4,), (6,), (2, 8), (4, 6), (3, 5, 5), (4, 4, 6), (1, 6, 6), (2, 3, 4)]))
    samples = draw(st.sampled_from([2, 3, 4, 5, 1]))
    steps, now = [], shape
    for _ in range(draw(st.integers(0, longest))):
        made = STEPS[draw(st.sampled_from(names))](draw, now)
        after = None if made is None else shape_after(made, now)
        if made is None or after is None:
            continue
        # explain leaves the buffers of a module with two names changed: see test_what_auto_looks_at_stays_as_it_is.
        shared = after == now and not list(made.buffers()) and draw(st.integers(0, 4)) == 0
        steps += [made, made] if shared else [made]
        now = after
    critic = Critic(steps, now, draw(st.sampled_from(heads))).double()
    names_of = [name for name, _ in critic.named_parameters() if not name.startswith(("linear", "embed"))]
    frozen = draw(st.lists(st.sampled_from(names_of), unique=True, max_size=3)) if names_of else []
    for name, parameter in critic.named_parameters():
        parameter.requires_grad_(name not in frozen)
    weight = st.sampled_from([0, 1.0, 10.0, 0.3])
    case = Case(
        critic,
        samples,
        shape,
        draw(st.integers(0, 2**16)),
        draw(st.sampled_from(list(LOSSES))),
        draw(weight),
        draw(weight),
        draw(weight),
        draw(st.sampled_from([1.0, 0.0, 0.05])),
        draw(st.booleans()),
        draw(st.sampled_from(["contiguous", "contiguous", "transposed"])),
        frozen,
    )
    if not (case.r1 or case.r2 or case.wgan_gp):
        case.r1 = 1.0
    if any(step.name.startswith("noise") for step in steps):  # drawn in the order of memory, which interpolates choose
        case.layout = "contiguous"
    return case


def shape_after(made: Step, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape that a step makes of a shape; None where it does not fit."""
    try:
        after = tuple(copy.deepcopy(made)(torch.randn(2, *shape), torch.zeros(2, dtype=torch.int64)).shape[1:])
    except (RuntimeError, IndexError, ValueError, NotImplementedError):
        return None
    return after if 1 <= len(after) <= 3 and 1 <= math.prod(after) <= 400 else None


def check(case: Case) -> str:
    """Holds one_pass, if it accepts, and auto against the textbook; returns which method auto took."""
    real, fake, labels = case.batch()
    loss = LOSSES[case.loss]
    penalties = [kind(w) for kind, w in ((R1, case.r1), (R2, case.r2)) if w]
    penalties += [WGANGP(case.wgan_gp, case.target, one_sided=case.one_sided)] if case.wgan_gp else []

    expected = copy.deepcopy(case.critic)
    torch.manual_seed(case.seed)
    try:
        total = textbook(expected, real, fake, labels, loss, **case.penalties)
        truth = gradients(expected, total)
    except (RuntimeError, IndexError, ValueError):
        assume(False)  # not even the textbook can: a size that does not fit a batch of one, an unused input
    assume(torch.isfinite(total) and all(t.isfinite().all() for t in truth.values()))

    def compare(method: str) -> CriticLoss:
        critic = copy.deepcopy(case.critic)
        torch.manual_seed(case.seed)
        found = fastgan.critic_loss(critic, real, fake, loss=loss, penalties=penalties, labels=labels, method=method)
        for norm in found.gradient_norms.values():  # rounding noise has a norm, but no direction
            assume(bool(((norm == 0) | (norm > 1e-7)).all()))
        deposited = gradients(critic, found)
        torch.testing.assert_close(found.detach() * 1, total.detach(), rtol=1e-9, atol=1e-9)
        largest = max((deposited[name] - t).abs().max().item() for name, t in truth.items())
        if largest > 1e-12:  # what cancels leaves rounding noise in both
            assert relative_error(deposited, truth) <= 1e-10 * max(1, _amplification(found)), found.method
        for (name, a), b in zip(critic.named_buffers(), expected.buffers(), strict=True):
            torch.testing.assert_close(a, b, msg=f"buffer {name}")
        return found

    try:
        compare("one_pass")
        accepted = True
    except NotAffineError:
        accepted = False
    found = compare("auto")
    assert found.method == ("one_pass" if accepted else "double_backward")
    if accepted:
        compare("double_backward")
    return found.method


def _amplification(found: CriticLoss) -> float:
    """How much longer the longest gradient is than the shortest: rounding of one is not small beside the other."""
    norms = torch.cat([n[n > 0] for n in found.gradient_norms.values()])
    return (norms.max() / norms.min()).item() if len(norms) else 1.0


# Tested by itself only: double backward may call a hook on an activation with None where PyTorch's gives zeros.
ALONE = ("hooked",)
GOOD = tuple(name for name in STEPS if name not in INELIGIBLE and name not in ALONE)
ANY = tuple(name for name in STEPS if name not in ALONE)
HEADS = ("scalar", "scalar", "vector", "projection")


@settings(max_examples=EXAMPLES, phases=PHASES, **COMMON)
@given(cases(GOOD, 7, HEADS))
def test_eligible_critics_equal_the_textbook(case):
    check(case)


@settings(max_examples=EXAMPLES, phases=PHASES, **COMMON)
@given(cases(ANY, 5, (*HEADS, "two", "smooth")))
def test_any_critics_equal_the_textbook(case):
    check(case)


@pytest.mark.parametrize(
    "name",
    STEPS,
)
def test_each_step_between_two_layers(name):
    """Every step in every one of its variants that a few tries hit."""

    @settings(max_examples=6, phases=[Phase.generate], **COMMON)
    @given(between(name))
    def run(case):
        check(case)

    run()


def test_what_auto_looks_at_stays_as_it_is():
    """A batch norm that is used twice."""
    norm = nn.BatchNorm1d(4)
    critic = nn.Sequential(norm, nn.ReLU(), norm, nn.Linear(4, 1))
    before = {name: b.clone() for name, b in critic.named_buffers()}
    fastgan.explain(critic, torch.randn(5, 4))
    for name, b in critic.named_buffers():
        assert torch.equal(b, before[name]), name


@st.composite
def between(draw, name: str) -> Case:
    """A linear layer, a rectifier, the step, the same again."""
    torch.manual_seed(draw(st.integers(0, 2**16)))
    shape = draw(st.sampled_from([(4,), (2, 6), (4, 4, 4), (2, 4, 6)]))
    around = [STEPS[n](draw, shape) for n in ("residual", "leaky_relu")]
    made = STEPS[name](draw, shape)
    assume(made is not None)
    after = shape_after(made, shape)
    assume(after is not None)
    steps = [*around, made, STEPS["linear"](draw, after)]
    end = shape_after(steps[-1], after)
    assume(end is not None)
    steps.append(STEPS["leaky_relu"](draw, end))
    return Case(
        Critic(steps, tuple(end), "scalar").double(),
        draw(st.sampled_from([3, 2, 1])),
        shape,
        draw(st.integers(0, 2**16)),
        "nonsaturating",
        2.0,
        1.0,
        1.0,
        1.0,
        False,
        "contiguous",
        [],
    )
