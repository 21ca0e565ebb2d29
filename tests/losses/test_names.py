"""Names: `parse` makes of a loss's name the same objective again, with all its parameters."""

import pytest
import torch

from fastgan.losses import (
    DIVERGENCES,
    LOSSES,
    began,
    ebgan,
    feature_matching_with,
    fgan,
    hinge,
    label_smoothing,
    minimax,
    mmd_with,
    parse,
)
from fastgan.losses.divergences import alpha, weighted_jensen_shannon

MADE = {
    "fgan:alpha:0.5": fgan(alpha(0.5)),
    "fgan:alpha:-1.5": fgan(alpha(-1.5)),
    "fgan:alpha": fgan(alpha(2.0)),
    "fgan:alpha:0.1:saturating": fgan(alpha(0.1), saturating=True),
    "fgan:weighted_jensen_shannon:0.3": fgan(weighted_jensen_shannon(0.3)),
    "fgan:weighted_jensen_shannon:0.3:saturating": fgan(weighted_jensen_shannon(0.3), saturating=True),
    **{f"fgan:{name}:saturating": fgan(name, saturating=True) for name in DIVERGENCES},
    "ebgan:0.25": ebgan(0.25),
    "began:0.7": began(0.7),
    "began:0.7:0.01": began(0.7, lambda_k=0.01),
    "began:0.5:0.01": began(lambda_k=0.01),
    "mmd:gaussian": mmd_with("gaussian"),
    "label_smoothing:0.75:minimax": label_smoothing(minimax, 0.75),
    "label_smoothing:0.9:fgan:gan:saturating": label_smoothing(fgan("gan", saturating=True)),
    "feature_matching:label_smoothing:0.9:minimax": feature_matching_with(label_smoothing(minimax)),
    "feature_matching:fgan:alpha:0.5:saturating": feature_matching_with(fgan(alpha(0.5), saturating=True)),
    "feature_matching:hinge": feature_matching_with(hinge),
}  # fmt: skip


@pytest.mark.parametrize("name", [*LOSSES, *MADE])
def test_a_name_makes_the_same_objective(name, generator):
    loss = {**LOSSES, **MADE, "began": began()}[name]
    found = parse(name)
    assert loss.name == found.name == name
    for attribute in ("output", "needs_real", "classifier", "paper"):
        assert getattr(found, attribute) == getattr(loss, attribute)
    shape = (6, 3) if loss.witness else (6, 1)
    real, fake = torch.rand(2, *shape, dtype=torch.float64, generator=generator)
    losses = []
    for one in (loss, found):
        torch.manual_seed(1)  # of the sliced Wasserstein distance
        if name.startswith("began"):
            one.update(real, 0.01 * fake)
        losses.append(torch.stack(list(one(real, fake))))
    assert torch.equal(*losses)


def test_the_generator_of_the_minimax_form(generator):
    """-E_q f*(T): for Pearson's divergence f*(t) = t^2/4 + t."""
    fake = torch.rand(5, 1, dtype=torch.float64, generator=generator)
    found = parse("fgan:pearson:saturating").generator(fake, None)
    assert found.item() == pytest.approx(-(fake.square() / 4 + fake).mean().item(), rel=1e-12)
    assert parse("fgan:pearson").generator(fake, None).item() == pytest.approx(-fake.mean().item(), rel=1e-12)


@pytest.mark.parametrize(
    "text", ["fgan:saturating", "fgan:kl:saturating:2", "fgan:kl:2:saturating", "fgan:alpha:2:3", "ebgan:1:2", "fgan"]
)
def test_what_is_no_name(text):
    with pytest.raises(ValueError, match=f"'{text}', expected .*nonsaturating, minimax"):
        parse(text)


@pytest.mark.parametrize(("text", "message"), [
    ("fgan:alpha:saturating:saturating", "expected a number after the divergence, as in fgan:alpha:0.3"),
    ("fgan:alpha::saturating", "expected a number after the divergence, as in fgan:alpha:0.3"),
    ("began:0.5:", "expected a number for gamma, and another for lambda_k if you like, as in began:0.7"),
])  # fmt: skip
def test_what_is_no_number(text, message):
    with pytest.raises(ValueError, match=f"'{text}', {message}"):
        parse(text)
