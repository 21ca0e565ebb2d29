"""How a task uses the classes of its data: who is told them, the critic that this takes, and what is minimised."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor, nn

from fastgan.errors import nearest
from fastgan.losses import Loss, auxiliary_classifier, semi_supervised, supervised
from fastgan.losses.features import leading_logit
from fastgan.models import AuxiliaryClassifierCritic, ProjectionCritic
from fastgan.tasks.labels import UNLABELLED, Labels


@dataclass(frozen=True)
class Conditioning:
    """How a task uses classes.

    Attributes:
        name: what recipes call it; empty for a run without classes.
        paper: where it stands.
        tells_generator, tells_critic: whether that network is called with labels.
        critic: makes the critic for n classes of what makes the plain one, which takes `outputs`.
        objective: what the players minimise in an update with these labels, from the run's objective of logits.
    """

    name: str
    paper: str
    tells_generator: bool
    tells_critic: bool
    critic: Callable[[Callable[..., nn.Module], int], nn.Module]
    objective: Callable[[Loss, Labels], Loss]

    def with_labels(self, loss: Loss, labels: Labels) -> tuple[Loss, Labels]:
        """What the players minimise in an update with these labels, and those that the critic is called with."""
        return self.objective(loss, labels), labels if self.tells_critic else UNLABELLED


def auxiliary(loss: Loss, labels: Labels, weight: float = 1.0) -> Loss:
    """The objective with an auxiliary classifier's terms, of outputs [B, 1 + n]: a logit, then those of n classes.

    Args:
        loss: an objective of logits.
        labels: of the data and of the samples that the outputs are for.
        weight: of the terms, in both players' losses.

    Gradient penalties are of the logit's gradient.

    Odena et al. 2017, arXiv:1610.09585, equations 2 and 3.
    """
    real_labels, fake_labels = labels
    assert real_labels is not None
    assert fake_labels is not None

    def critic(real: Tensor, fake: Tensor) -> Tensor:
        terms = auxiliary_classifier.critic(real[:, 1:], real_labels, fake[:, 1:], fake_labels)
        return loss.critic(real[:, :1], fake[:, :1]) + weight * terms

    def generator(fake: Tensor, real: Tensor | None) -> Tensor:
        term = auxiliary_classifier.generator(fake[:, 1:], fake_labels)
        return loss.generator(fake[:, :1], None if real is None else real[:, :1]) + weight * term

    return Loss(loss.name, critic, generator, loss.paper, loss.needs_real, output="class logits", witness=leading_logit)


def labelled(loss: Loss, labels: Labels) -> Loss:
    """The game of n + 1 classes, of class logits [B, n], with the supervised term on the data.

    Args:
        loss: an objective of logits.
        labels: of the data.

    Gradient penalties are of the gradient of log Z, the logit of being data.

    Salimans et al. 2016, arXiv:1606.03498, section 5.
    """
    game, real_labels = semi_supervised(loss), labels.real
    assert real_labels is not None

    def critic(real: Tensor, fake: Tensor) -> Tensor:
        return supervised(real, real_labels) + game.critic(real, fake)

    return replace(game, critic=critic)


UNCONDITIONAL = Conditioning("", "", False, False, lambda make, n: make(), lambda loss, labels: loss)

PROJECTION = Conditioning(
    "projection",
    "Miyato & Koyama 2018, arXiv:1802.05637",
    tells_generator=True,
    tells_critic=True,
    critic=lambda make, n: ProjectionCritic(make(), n),
    objective=lambda loss, labels: loss,
)

SEMI_SUPERVISED = Conditioning(
    "semi-supervised",
    "Salimans et al. 2016, arXiv:1606.03498",
    tells_generator=False,
    tells_critic=False,
    critic=lambda make, n: make(outputs=n),
    objective=labelled,
)


def auxiliary_classifier_of(weight: float) -> Conditioning:
    """An auxiliary classifier whose terms have this weight."""
    return Conditioning(
        "auxiliary-classifier",
        "Odena et al. 2017, arXiv:1610.09585",
        tells_generator=True,
        tells_critic=False,
        critic=lambda make, n: AuxiliaryClassifierCritic(make(), n),
        objective=lambda loss, labels: auxiliary(loss, labels, weight),
    )


CONDITIONINGS: dict[str, Conditioning] = {
    kind.name: kind for kind in (PROJECTION, auxiliary_classifier_of(1.0), SEMI_SUPERVISED)
}
"""Every way to use classes by its name."""


def parse(text: str) -> Conditioning:
    """`projection`, `auxiliary-classifier`, or with its weight `auxiliary-classifier:0.5`, `semi-supervised`.

    Returns:
        The way to use classes; the one without for an empty text.

    Raises:
        ValueError: there is no such way, or its weight is no number above 0.
    """
    if not text:
        return UNCONDITIONAL
    name, colon, weight = text.partition(":")
    if name not in CONDITIONINGS or (colon and name != "auxiliary-classifier"):
        raise ValueError(f"{text!r}, expected {nearest(name, CONDITIONINGS)}")
    if not colon:
        return CONDITIONINGS[name]
    try:
        number = float(weight)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ValueError(f"{text!r}, expected a weight above 0, as in auxiliary-classifier:0.5")
    return auxiliary_classifier_of(number)
