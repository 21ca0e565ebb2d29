"""Properties that every objective has, whatever its formula."""

import inspect

import numpy as np
import pytest
import torch

import fastgan
from fastgan.losses import LOSSES, began, ebgan, fgan, mmd_with, parse
from tests.losses.f_divergences import TABLE


def discrepancy(kernel):
    """The unbiased MMD^2 of numbers, in loops."""

    def value(x, y):
        xx = [kernel((a - b) ** 2) for i, a in enumerate(x) for j, b in enumerate(x) if i != j]
        yy = [kernel((a - b) ** 2) for i, a in enumerate(y) for j, b in enumerate(y) if i != j]
        return np.mean(xx) + np.mean(yy) - 2 * np.mean([kernel((a - b) ** 2) for a in x for b in y])

    return value


RATIONAL = discrepancy(lambda d: sum((1 + d / (2 * a)) ** -a for a in (0.2, 0.5, 1, 2, 5)))
GAUSSIAN = discrepancy(lambda d: sum(np.exp(-d / (2 * w**2)) for w in (1, 2, 4, 8, 16)))
# The formulas once more, as numpy loops over float64 logits.
TEXTBOOK = {
    "minimax": (
        lambda real, fake: np.mean([np.logaddexp(0, -x) for x in real]) + np.mean([np.logaddexp(0, y) for y in fake]),
        lambda fake, real: np.mean([np.log(1 - 1 / (1 + np.exp(-y))) for y in fake]),
    ),
    "maximum_likelihood": (
        lambda real, fake: np.mean([np.logaddexp(0, -x) for x in real]) + np.mean([np.logaddexp(0, y) for y in fake]),
        lambda fake, real: -np.log(np.mean([np.exp(y) for y in fake])),
    ),
    "maximum_likelihood:plain": (
        lambda real, fake: np.mean([np.logaddexp(0, -x) for x in real]) + np.mean([np.logaddexp(0, y) for y in fake]),
        lambda fake, real: -np.mean([np.exp(y) for y in fake]),
    ),
    "nonsaturating": (
        lambda real, fake: np.mean([np.logaddexp(0, -x) for x in real]) + np.mean([np.logaddexp(0, y) for y in fake]),
        lambda fake, real: np.mean([np.logaddexp(0, -y) for y in fake]),
    ),
    "hinge": (
        lambda real, fake: np.mean([max(0, 1 - x) for x in real]) + np.mean([max(0, 1 + y) for y in fake]),
        lambda fake, real: -np.mean(fake),
    ),
    "wasserstein": (lambda real, fake: np.mean(fake) - np.mean(real), lambda fake, real: -np.mean(fake)),
    "least_squares": (
        lambda real, fake: 0.5 * np.mean([(x - 1) ** 2 for x in real]) + 0.5 * np.mean([y**2 for y in fake]),
        lambda fake, real: 0.5 * np.mean([(y - 1) ** 2 for y in fake]),
    ),
    "relativistic_pairing": (
        lambda real, fake: np.mean([np.logaddexp(0, y - x) for x, y in zip(real, fake, strict=True)]),
        lambda fake, real: np.mean([np.logaddexp(0, x - y) for x, y in zip(real, fake, strict=True)]),
    ),
    "mmd": (lambda real, fake: -RATIONAL(real, fake), lambda fake, real: RATIONAL(real, fake)),
    "mmd:gaussian": (lambda real, fake: -GAUSSIAN(real, fake), lambda fake, real: GAUSSIAN(real, fake)),
    "sliced_wasserstein": (
        lambda real, fake: np.mean([np.logaddexp(0, -x) for x in real]) + np.mean([np.logaddexp(0, y) for y in fake]),
        lambda fake, real: np.mean((np.sort(real) - np.sort(fake)) ** 2),
    ),
    "ebgan": (
        lambda real, fake: np.mean(real) + np.mean([max(0, 1 - y) for y in fake]),
        lambda fake, real: np.mean(fake),
    ),
    "began": (lambda real, fake: np.mean(real), lambda fake, real: np.mean(fake)),  # k is 0 at first
}
for _name, _divergence in TABLE.items():
    TEXTBOOK[f"fgan:{_name}"] = (
        lambda real, fake, d=_divergence: (
            np.mean([d.conjugate(d.activation(y)) for y in fake]) - np.mean([d.activation(x) for x in real])
        ),
        lambda fake, real, d=_divergence: -np.mean([d.activation(y) for y in fake]),
    )
EVERY = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
OF_LOGITS = {name: loss for name, loss in LOSSES.items() if loss.output == "logit"}
EVERY_OF_LOGITS = pytest.mark.parametrize("loss", OF_LOGITS.values(), ids=OF_LOGITS)


@pytest.fixture
def logits(generator):
    return torch.randn(2, 40, 1, dtype=torch.float64, generator=generator) * 3


def test_each_is_callable_by_its_name_and_gives_both_players_losses(logits):
    real, fake = logits
    made = {"ebgan": ebgan(), "began": began(), "mmd:gaussian": mmd_with("gaussian")}
    made["maximum_likelihood:plain"] = fastgan.losses.plain_maximum_likelihood
    made |= {name: fgan(name.removeprefix("fgan:")) for name in LOSSES if name.startswith("fgan:")}
    for name, loss in LOSSES.items():
        named = made[name] if name in made else getattr(fastgan.losses, name)
        torch.testing.assert_close(tuple(named(real, fake)), (loss.critic(real, fake), loss.generator(fake, real)))
        assert parse(name) is loss or name == "began"  # of which everybody needs one


def slopes(value, *inputs):
    return torch.autograd.grad(value, inputs, allow_unused=True)


def test_registry_names_itself():
    assert LOSSES.keys() == TEXTBOOK.keys()
    assert all(name == loss.name for name, loss in LOSSES.items())
    assert all("arXiv:" in loss.paper for loss in LOSSES.values())
    needing = ["relativistic_pairing", "mmd", "mmd:gaussian", "sliced_wasserstein"]
    assert [name for name, loss in LOSSES.items() if loss.needs_real] == needing
    classifiers = ["nonsaturating", "minimax", "maximum_likelihood", "maximum_likelihood:plain", "least_squares"]
    classifiers += ["fgan:jensen_shannon", "fgan:gan"]
    assert [name for name, loss in LOSSES.items() if loss.classifier] == classifiers
    outputs = {"mmd": "features", "mmd:gaussian": "features", "sliced_wasserstein": "features"}
    outputs |= {"ebgan": "error", "began": "error"}
    assert {name: loss.output for name, loss in LOSSES.items() if loss.output != "logit"} == outputs


@EVERY
def test_values_are_the_textbook_formulas(loss, logits):
    real, fake = logits
    critic, generator = TEXTBOOK[loss.name]
    x, y = real.flatten().tolist(), fake.flatten().tolist()
    # The conjugates of the f-divergences are maxima found numerically.
    rel = 1e-7 if loss.name.startswith("fgan") else 1e-12
    assert loss.critic(real, fake).item() == pytest.approx(critic(x, y), rel=rel, abs=rel)
    assert loss.generator(fake, real).item() == pytest.approx(generator(y, x), rel=rel)


@EVERY
def test_docstrings_state_the_paper(loss):
    for function in (loss.critic, loss.generator):
        assert loss.paper.split()[-1] in inspect.getdoc(function)


@EVERY_OF_LOGITS
def test_scalars_in_full_precision_and_any_shape(loss, logits):
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        real, fake = logits.to(dtype)
        for value in loss(real, fake):
            assert value.shape == ()
            assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    real, fake = logits
    torch.testing.assert_close(loss.critic(real, fake), loss.critic(real.view(2, 5, 4), fake.view(2, 5, 4)))


@EVERY
def test_first_and_second_derivatives(loss, logits):
    # Standard normal: of exp(3 x) finite differences keep too few digits for the smallest entries of a mean.
    real, fake = ((x[:6] / 3).requires_grad_() for x in logits)
    assert torch.autograd.gradcheck(loss.critic, (real, fake))
    assert torch.autograd.gradgradcheck(loss.critic, (real, fake))
    fixed = real.detach()
    assert torch.autograd.gradcheck(lambda y: loss.generator(y, fixed), (fake,))
    assert torch.autograd.gradgradcheck(lambda y: loss.generator(y, fixed), (fake,))


@EVERY_OF_LOGITS
def test_the_players_pull_in_opposite_directions(loss):
    """Near an undecided critic, the critic raises D(x) and lowers D(G(z)), and the generator raises D(G(z))."""
    real = torch.full((4, 1), 0.25, dtype=torch.float64, requires_grad=True)
    fake = torch.full((4, 1), 0.25, dtype=torch.float64, requires_grad=True)
    up, down = slopes(loss.critic(real, fake), real, fake)
    assert (up < 0).all()
    assert (down > 0).all()
    (pull,) = slopes(loss.generator(fake, real.detach()), fake)
    assert (pull < 0).all()


@EVERY_OF_LOGITS
@pytest.mark.parametrize("size", [1e3, 1e4])
@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_large_logits_are_as_right_in_float32_as_in_float64(loss, size, signs):
    def all_of(dtype):
        real, fake = (torch.tensor([[sign * size]], dtype=dtype, requires_grad=True) for sign in signs)
        critic, generator = loss.critic(real, fake), loss.generator(fake, real.detach())
        found = [critic, *slopes(critic, real, fake), generator, *slopes(generator, fake)]
        return torch.stack([torch.as_tensor(x).reshape(()) for x in found])

    single, exact = all_of(torch.float32), all_of(torch.float64)
    assert exact.isfinite().all()
    torch.testing.assert_close(single.double(), exact, rtol=1e-6, atol=1e-30)


@EVERY
def test_only_a_loss_that_needs_it_looks_at_the_real_output(loss, logits):
    real, fake = logits
    if loss.needs_real:
        assert loss.generator(fake, real) != loss.generator(fake, real + 1)
        with pytest.raises(
            ValueError, match=f"{loss.name.split(':')[0]}: real_.* is None, expected the critic's output"
        ):
            loss.generator(fake, None)
    else:
        assert loss.generator(fake, None) == loss.generator(fake, real) == loss.generator(fake, real[:3])
