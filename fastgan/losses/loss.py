"""`Loss`: an objective, two scalars to minimise, one for each player."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from torch import Tensor

Output = Literal["logit", "features", "logit and features", "error", "class logits"]
"""What a critic says of a sample: a number of any sign, a vector, the one and then the other, how badly it is
reconstructed, a logit per class."""


class Players(NamedTuple):
    """The losses of the two players, scalars."""

    critic: Tensor
    generator: Tensor


@dataclass(frozen=True)
class Loss:
    """An objective of the two players, as pure functions of the critic's outputs.

        loss = fastgan.losses.hinge
        loss.critic(real_logits, fake_logits).backward()

    Attributes:
        name: how the Python API and the command line call it, with every parameter that is not the default:
            `fastgan.losses.parse` makes the same objective of it. Not so `semi_supervised` and those of your own.
        critic: (real [B, ...], fake [B, ...]) -> scalar that the critic minimises, given its outputs on data and on
            samples. Half precision is computed in float32, here and in the generator's, and so is the scalar.
        generator: (fake [B, ...], real [B, ...] or None) -> scalar that the generator minimises. Only a loss that
            `needs_real` looks at the outputs on data, which are constants to the generator.
        paper: where the formula stands.
        needs_real: whether the generator's loss needs the critic's outputs on data.
        output: what the critic's outputs are: `logit` [B, 1], `features` [B, F], `logit and features` [B, 1 + F],
            `error` [B] or [B, 1], at least 0, or `class logits` [B, n].
        witness: of a critic that gives several numbers, the one per sample whose gradient penalties bound:
            (outputs at the points [P, ...], on data [B, ...], on samples [B', ...]) -> [P]. None for all others, whose
            output is that number; several numbers without a witness take no penalty.
        classifier: whether the critic's loss is, up to a constant, the cross entropy between the target 1 on data, 0 on
            samples and s(D), or half the squared error between the targets and D. See `label_smoothing`.
        error_power: of an objective of reconstruction errors, the power of the differences in the paper's error.
        least: samples of data, and of samples, that it needs in a batch: 2 where they are compared with each other.
        state: tensors by name that the objective carries from step to step, as `began` its k; `update` moves them. A
            copy of the loss (copy.deepcopy, pickle) has a state of its own.
    """

    name: str
    critic: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor | None], Tensor]
    paper: str
    needs_real: bool = False
    output: Output = "logit"
    classifier: bool = False
    witness: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    error_power: int = 2
    least: int = 1
    state: dict[str, Tensor] = field(default_factory=dict, compare=False)

    def __call__(self, real: Tensor, fake: Tensor) -> Players:
        """Both players' losses; each player differentiates its own."""
        return Players(self.critic(real, fake), self.generator(fake, real))

    def update(self, real: Tensor, fake: Tensor) -> None:
        """Moves the state after a step, if there is one, by the critic's outputs on data and samples or their means."""
