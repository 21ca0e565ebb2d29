"""What a step of training came to."""

from dataclasses import dataclass, field, replace

from torch import Tensor

from fastgan.penalties import CriticLoss


@dataclass
class Step:
    """What a step came to: detached tensors, still on the device, so that nothing waits for them.

    Attributes:
        losses: `critic`, without its penalties, and `generator`: scalars, before the updates.
        penalties: each penalty's value by its name, `path_length` and `orthogonal` among them.
        gradient_norms: the norm of the critic's gradient at each point of each penalty, [B], by the penalty's name.
        method: how the gradient of the penalties was computed, in words; None without penalties.
        outputs: the critic's on data and on samples, detached; None before its update.
        annealed: what follows the number of the step, as it was in this one: `instance_noise`, its standard deviation.
    """

    losses: dict[str, Tensor] = field(default_factory=dict)
    penalties: dict[str, Tensor] = field(default_factory=dict)
    gradient_norms: dict[str, Tensor] = field(default_factory=dict)
    method: str | None = None
    outputs: tuple[Tensor, Tensor] | None = None
    annealed: dict[str, Tensor] = field(default_factory=dict)

    def after(self, previous: "Step") -> "Step":
        """This step, with what it left out of the regularisation as it was last."""
        return replace(
            self,
            penalties={**previous.penalties, **self.penalties},
            gradient_norms={**previous.gradient_norms, **self.gradient_norms},
        )

    def with_defaults(self, first: "Step") -> "Step":
        """This, where an earlier one of the same step has not said it already."""
        return Step(
            {**first.losses, **self.losses, **first.losses},
            {**first.penalties, **self.penalties, **first.penalties},
            {**first.gradient_norms, **self.gradient_norms, **first.gradient_norms},
            first.method or self.method,
            first.outputs or self.outputs,
        )

    def scalars(self) -> dict[str, Tensor]:
        """All of it as scalars under the names of the log: `penalty_r1`, `gradient_norm_r1` (the mean norm), ..."""
        penalties = {f"penalty_{name}": value for name, value in self.penalties.items()}
        norms = {f"gradient_norm_{name}": norm.mean() for name, norm in self.gradient_norms.items()}
        return {**self.losses, **penalties, **norms, **self.annealed}


def method_of(total: CriticLoss) -> str:
    """How the gradient of the penalties was computed, in words."""
    name = {"one_pass": "one pass", "double_backward": "double backward"}[total.method]
    return name if total.reason is None else f"{name}, because {total.reason}"
