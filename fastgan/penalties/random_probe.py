"""`method="random_probe"`: R1 and R2 estimated along one random direction per sample, as several code bases of 2025 do.

A baseline to compare with, never chosen by itself. Its mean is the penalty as the deviation goes to 0; its variance is
that of a chi-square with one degree of freedom, and so is its gradient's: docs/gradient-penalties.md has it measured.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan.losses.structure import map_parts
from fastgan.nn import statistics_of
from fastgan.penalties.checks import check_scalar
from fastgan.penalties.objective import copied
from fastgan.penalties.outputs import Form, Outputs
from fastgan.penalties.penalty import Penalty
from fastgan.penalties.result import CriticLoss, sum_of_terms
from fastgan.penalties.step import CriticStep

DEVIATION = 0.01
"""The standard deviation sigma of the displacement (Lin et al. 2025, arXiv:2501.08316, for images)."""


def by_random_probe(step: CriticStep) -> CriticLoss:
    """The loss, and R1 and R2 estimated from one random direction for each sample."""
    shown: dict[str, Any] = {}
    judged: dict[str, Any] = {}
    probes: dict[str, Tensor] = {}
    for at, x, labels, penalised in step.sides():
        with statistics_of(at, step.network), torch.enable_grad():
            if penalised:
                parts, form, probes[at] = probe(step.network, step.outputs, x.detach(), labels)
            else:
                parts, form = step.outputs.parts(step.network(x.detach(), *labels), len(x))
            shown[at], judged[at] = form.split(parts), form.judged(parts)
    with torch.enable_grad():
        loss = step.objective(*(map_parts(copied, shown[at]) for at in ("real", "fake")))
        check_scalar("critic_loss", loss)
    terms = {name: (penalty, probes[penalty.at]) for name, penalty in step.penalties.items()}
    return sum_of_terms(loss, judged["real"], judged["fake"], terms)


def probe(
    network: Callable[..., Any], outputs: Outputs, x: Tensor, rest: Sequence[Any]
) -> tuple[list[Tensor], Form, Tensor]:
    """D(x) and (D(x_i + sigma z_i) - D(x_i)) / sigma for z_i ~ N(0, I), [B, 1], differentiable.

    gamma/2 times the mean of its squares is the code bases' lambda mean (D(x) - D(x + sigma z))^2 with
    lambda = gamma / (2 sigma^2): its expectation is R1 or R2, where D is linear over the distance sigma.

    Returns:
        The parts of the output at x, their form, and the quotient.
    """
    parts, form = outputs.parts(network(x, *rest), len(x))
    displaced, _ = outputs.parts(network(x + DEVIATION * torch.randn_like(x), *rest), len(x))
    return parts, form, ((form.numbers(displaced) - form.numbers(parts)) / DEVIATION).unsqueeze(1)


def check_probed(owner: str, penalties: Mapping[str, Penalty]) -> None:
    """Raises ValueError unless every penalty is a square of the gradient's norm at samples (R1, R2)."""
    for name, penalty in penalties.items():
        if penalty.rho.target is not None:
            raise ValueError(
                f"{owner}: method is 'random_probe' and penalties has {name}, expected R1 and R2 alone: a random "
                "direction estimates the square of a gradient's norm, not the norm"
            )
