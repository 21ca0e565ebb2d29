"""`CriticLoss`, the scalar that `critic_loss` returns, with its parts as attributes."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fastgan._torch_private import no_torch_function
from fastgan.losses.structure import map_parts

if TYPE_CHECKING:
    from fastgan.losses import Loss
    from fastgan.penalties.penalty import Penalty


class CriticLoss(Tensor):
    """A scalar tensor: `.backward()` deposits the gradient of loss plus penalties in the critic's parameters.

    Whatever is computed from it (a scaled or accumulated loss) is a plain tensor.

    Attributes:
        loss: the objective alone, a detached scalar.
        penalties: each penalty's mean by name, detached scalars (`r1`, `r2`, ...; a second one of a name is `r1_2`).
        gradient_norms: ||grad D(x_i)|| at each penalty's points by the same names, [B], float32 (float64 for float64).
        real_logits, fake_logits: D(real) and D(fake), what is judged of it, detached: a tensor, or as the critic gives
            several.
        method: `one_pass`, `double_backward`, `directional` or `random_probe`.
        reason: why it was another than `one_pass`; None for one pass, or if it was asked for.
        error_estimate: the relative error of the gradient, where `Directional(estimate=True)` was asked for; else None.
    """

    # An ordinary tensor for every operator.
    __torch_function__ = no_torch_function

    loss: Tensor
    penalties: dict[str, Tensor]
    gradient_norms: dict[str, Tensor]
    real_logits: Any
    fake_logits: Any
    method: str
    reason: str | None
    error_estimate: Tensor | None = None
    _generator_side: "GeneratorSide | None"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else repr(self)


class GeneratorSide:
    """The part of the critic's step that a simultaneous generator update needs: see `generator_loss_from`."""

    def __init__(
        self,
        fake: Tensor,
        gradient: Tensor | None,
        objective: "Loss | Any",
        separate: Callable[[], bool],
        reduce: str = "sum",
        pull: Callable[[Sequence[Tensor]], Tensor | None] = lambda _: None,
    ) -> None:
        self.fake = fake
        self.gradient = gradient  # of the sum of D(fake_i) with respect to fake
        self.objective = objective
        self.separate = separate  # whether D(fake_i) is known to depend on fake_i alone
        self.reduce = reduce  # which number of several outputs D(fake_i) is
        self.pull = pull  # <slopes, outputs>'s gradient with respect to fake; None where the graph is gone


def with_parts(total: Tensor, **parts: Any) -> CriticLoss:
    """The scalar `total` with its parts as attributes; differentiable unless autograd is off."""
    result = total.as_subclass(CriticLoss) if torch.is_grad_enabled() else total.detach().as_subclass(CriticLoss)
    for name, value in parts.items():
        setattr(result, name, value)
    return result


def loss_with_parts(
    total: Tensor,
    loss: Tensor,
    penalties: dict[str, Tensor],
    gradient_norms: dict[str, Tensor],
    real_logits: Any,
    fake_logits: Any,
    side: GeneratorSide | None = None,
) -> CriticLoss:
    """`total` as a `CriticLoss` with all of its parts but `method` and `reason`."""
    return with_parts(
        total,
        loss=loss,
        penalties=penalties,
        gradient_norms=gradient_norms,
        real_logits=map_parts(_detached, real_logits),
        fake_logits=map_parts(_detached, fake_logits),
        _generator_side=side,
    )


def _detached(part: Any) -> Any:
    return part.detach() if isinstance(part, Tensor) else part


def sum_of_terms(
    loss: Tensor | None,
    real_logits: Any,
    fake_logits: Any,
    terms: "dict[str, tuple[Penalty, Tensor]]",
    side: GeneratorSide | None = None,
) -> CriticLoss:
    """The loss plus the penalties of gradients that autograd can differentiate.

    Args:
        loss: a scalar; None for penalties alone.
        real_logits, fake_logits: the critic's outputs.
        terms: each penalty by its name, with the gradient [B, ...] that it is of; at least one, or a loss.
        side: what a generator's step needs.
    """
    values, norms = {}, {}
    with torch.enable_grad():
        total = loss
        for name, (penalty, g) in terms.items():
            value = penalty.rho(g).mean()
            total = value if total is None else total + value
            values[name] = value.detach()
            wide = g.detach() if g.dtype == torch.float64 else g.detach().float()
            norms[name] = torch.linalg.vector_norm(wide.unsqueeze(-1).flatten(1), dim=1)  # of numbers too
    assert total is not None
    plain = torch.zeros_like(total.detach()) if loss is None else loss.detach()
    return loss_with_parts(total, plain, values, norms, real_logits, fake_logits, side)


def named(penalties: Any) -> dict[str, Any]:
    """The penalties by their names; a second one of a name gets a number (`r1_2`)."""
    found: dict[str, Any] = {}
    for penalty in penalties:
        name, i = penalty.name, 2
        while name in found:
            name, i = f"{penalty.name}_{i}", i + 1
        found[name] = penalty
    return found
