"""Objectives: pure functions of the critic's logits, listed by name in `LOSSES`.

`fastgan.losses.hinge` and the others are `Loss`es; `fgan` makes the one of an f-divergence.
"""

from fastgan.losses.divergences import DIVERGENCES
from fastgan.losses.fgan import fgan
from fastgan.losses.hinge import HINGE
from fastgan.losses.least_squares import LEAST_SQUARES
from fastgan.losses.loss import Loss, Players
from fastgan.losses.maximum_likelihood import MAXIMUM_LIKELIHOOD
from fastgan.losses.minimax import MINIMAX
from fastgan.losses.nonsaturating import NONSATURATING
from fastgan.losses.relativistic_pairing import RELATIVISTIC_PAIRING
from fastgan.losses.wasserstein import WASSERSTEIN

# What users call them; each is named as the module it stands in.
hinge, least_squares, maximum_likelihood, minimax = HINGE, LEAST_SQUARES, MAXIMUM_LIKELIHOOD, MINIMAX
nonsaturating, relativistic_pairing, wasserstein = NONSATURATING, RELATIVISTIC_PAIRING, WASSERSTEIN

LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        nonsaturating,
        minimax,
        maximum_likelihood,
        hinge,
        wasserstein,
        least_squares,
        relativistic_pairing,
        *(fgan(name) for name in DIVERGENCES),
    )
}
"""Every objective that `fastgan train` can be asked for, by name; those with a parameter have its default."""


def parse(text: str) -> Loss:
    """`hinge`, `fgan:kl`, or `fgan:alpha:0.5` and `fgan:weighted_jensen_shannon:0.3` with the divergence's parameter.

    Raises:
        ValueError: there is no such objective, or it has no such parameter.
    """
    if text in LOSSES:
        return LOSSES[text]
    family, _, rest = text.partition(":")
    name, _, parameter = rest.partition(":")
    if family == "fgan" and name in ("alpha", "weighted_jensen_shannon"):
        try:
            number = float(parameter)
        except ValueError:
            raise ValueError(f"{text!r}, expected a number after the divergence, as in fgan:{name}:0.3") from None
        return fgan(DIVERGENCES[name](number))
    raise ValueError(f"{text!r}, expected one of {', '.join(LOSSES)}")


__all__ = [
    "DIVERGENCES", "LOSSES", "Loss", "Players", "fgan", "hinge", "least_squares", "maximum_likelihood", "minimax",
    "nonsaturating", "parse", "relativistic_pairing", "wasserstein",
]  # fmt: skip
