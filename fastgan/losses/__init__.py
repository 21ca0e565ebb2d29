"""Objectives: functions of the critic's outputs on data and on samples, listed by name in `LOSSES`.

`fastgan.losses.hinge` and the others are `Loss`es; `fgan`, `ebgan`, `began` and `mmd_with` make one with a parameter,
`label_smoothing`, `feature_matching_with` and `semi_supervised` one of another. docs/objectives.md lists them all with
their formulas.
"""

from collections.abc import Callable

from fastgan.errors import nearest
from fastgan.losses import auxiliary_classifier, learned_moments
from fastgan.losses.adaptive_weighting import adaptive_weight
from fastgan.losses.began_loss import began
from fastgan.losses.divergences import DIVERGENCES, PARAMETRIC
from fastgan.losses.ebgan_loss import ebgan, pulling_away
from fastgan.losses.feature_matching_loss import feature_matching, feature_matching_with
from fastgan.losses.fgan_loss import fgan
from fastgan.losses.hinge_loss import hinge
from fastgan.losses.label_smoothing_loss import label_smoothing
from fastgan.losses.least_squares_loss import least_squares
from fastgan.losses.loss import Loss, Players
from fastgan.losses.maximum_likelihood_loss import maximum_likelihood, plain_maximum_likelihood
from fastgan.losses.minimax_loss import minimax
from fastgan.losses.mmd_loss import maximum_mean_discrepancy, mmd, mmd_with, witness_function
from fastgan.losses.nonsaturating_loss import nonsaturating
from fastgan.losses.relativistic_pairing_loss import relativistic_pairing
from fastgan.losses.semi_supervised_loss import semi_supervised, supervised
from fastgan.losses.several_outputs import over_outputs
from fastgan.losses.sliced_wasserstein_loss import sliced_wasserstein, squared_sliced_wasserstein
from fastgan.losses.wasserstein_loss import wasserstein

LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        nonsaturating,
        minimax,
        maximum_likelihood,
        plain_maximum_likelihood,
        hinge,
        wasserstein,
        least_squares,
        relativistic_pairing,
        mmd,
        mmd_with("gaussian"),
        sliced_wasserstein,
        ebgan(),
        began(),
        *(fgan(name) for name in DIVERGENCES),
    )
}
"""Every objective that `fastgan train` can be asked for, by name; those with a parameter have its default.

Of `began`, which has a state, make an object of your own: `began()` or `parse("began")`."""

_OF_NUMBERS: dict[str, tuple[Callable[..., Loss], int, str]] = {
    "ebgan": (ebgan, 1, "for the margin, as in ebgan:0.5"),
    "began": (began, 2, "for gamma, and another for lambda_k if you like, as in began:0.7 or began:0.7:0.01"),
}
"""Family -> (constructor, largest number of parameters, an example for messages)."""


def parse(text: str) -> Loss:
    """The objective of a name, with its parameter if it has one.

    `hinge`, `fgan:kl`, `mmd:gaussian`, `maximum_likelihood:plain`; with a number `fgan:alpha:0.5`,
    `fgan:weighted_jensen_shannon:0.3`, `ebgan:0.5` (the margin), `began:0.7` (gamma), `began:0.7:0.01` (and lambda_k);
    with the generator of the minimax form `fgan:kl:saturating`, `fgan:alpha:0.5:saturating`;
    `label_smoothing:0.9:nonsaturating` of any classifier's objective, `feature_matching:nonsaturating` of any of
    logits.

    Returns:
        The `Loss`; one that has a state (began) is a fresh one at every call.

    Raises:
        ValueError: there is no such objective, or it has no such parameter.
    """
    if text == "began":
        return began()
    if text in LOSSES:
        return LOSSES[text]
    family, *parts = text.split(":")
    rest = ":".join(parts)
    if family == "label_smoothing":
        target, _, smoothed = rest.partition(":")
        number = _number(text, target, "and an objective, as in label_smoothing:0.9:nonsaturating")
        return label_smoothing(parse(smoothed), number)
    if family == "feature_matching":
        return feature_matching_with(parse(rest or "nonsaturating"))
    if family == "fgan":
        return _fgan(text, rest.removesuffix(":saturating"), saturating=rest.endswith(":saturating"))
    if family in _OF_NUMBERS:
        make, most, example = _OF_NUMBERS[family]
        if len(parts) <= most:
            return make(*(_number(text, part, example) for part in parts))
    raise _unknown(text)


def _fgan(text: str, divergence: str, saturating: bool) -> Loss:
    name, *parts = divergence.split(":")
    if name not in DIVERGENCES or len(parts) > (name in PARAMETRIC):
        raise _unknown(text)
    numbers = [_number(text, part, f"after the divergence, as in fgan:{name}:0.3") for part in parts]
    return fgan(DIVERGENCES[name](*numbers), saturating)


def _unknown(text: str) -> ValueError:
    return ValueError(f"{text!r}, expected {nearest(text, LOSSES)}")


def _number(text: str, part: str, example: str) -> float:
    try:
        return float(part)
    except ValueError:
        raise ValueError(f"{text!r}, expected a number {example}") from None


__all__ = [
    "DIVERGENCES", "LOSSES", "Loss", "Players", "adaptive_weight", "auxiliary_classifier", "began", "ebgan",
    "feature_matching", "feature_matching_with", "fgan", "hinge", "label_smoothing", "learned_moments", "least_squares",
    "maximum_likelihood", "maximum_mean_discrepancy", "minimax", "mmd", "mmd_with", "nonsaturating", "over_outputs",
    "parse", "plain_maximum_likelihood", "pulling_away", "relativistic_pairing", "semi_supervised",
    "sliced_wasserstein", "squared_sliced_wasserstein", "supervised", "wasserstein", "witness_function",
]  # fmt: skip
