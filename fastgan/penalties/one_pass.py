"""The gradient of loss plus penalties from one forward pass, one gradient pass and one pass with frozen masks.

For a critic that is piecewise affine in x sample by sample, nothing is differentiated twice: docs/gradient-penalties.md
has the derivation. `Evaluation` is one group of samples on its way through the four passes F, X, T and W.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan.affine import Slot, Tape, record
from fastgan.ops import penalised_input
from fastgan.penalties.penalty import Penalty

HEADROOM = 16.0
"""float16 loses small numbers below 6e-8 and large ones above 65504: gradients are carried through the network
multiplied by this, in between the loss scales that automatic mixed precision settles on."""


class Evaluation:
    """The critic at a batch of points where its gradient is penalised."""

    def __init__(self, critic: Callable[..., Tensor], x: Tensor, rest: Sequence[Any], penalties: Mapping[str, Penalty]):
        """F: the critic's own code runs, recorded."""
        self.x = x.detach()
        self.logits: Tensor
        self.tape: Tape
        self.logits, self.tape = record(critic, self.x, *rest)
        self.penalties = penalties
        self.values: dict[str, Tensor] = {}
        self.norms: dict[str, Tensor] = {}
        self.s: Tensor | None = None
        self.half = self.tape.uses(torch.float16)

    def differentiate(self, s: Tensor | None) -> Tensor:
        """X, the penalties and T's input, for s = dl/dD [B] (None: the points are not in the loss).

        Returns:
            The gradient of D with respect to the points.
        """
        seed_scale = HEADROOM if self.half else 1.0
        samples = len(self.x)
        self.s = None if s is None else s.detach().reshape(samples).to(_accumulator(self.x))
        g, self.of_constants = self.tape.gradient(torch.full_like(self.logits, seed_scale), self.s)
        self.u: Tensor | None = None
        for name, penalty in self.penalties.items():
            s_once = self.s if self.u is None else None
            u, value, norm = penalised_input(
                g, self.x, s_once, *penalty.rho, scale=1 / max(samples, 1), grad_scale=1 / seed_scale
            )
            self.u = u if self.u is None else self.u + u
            self.values[name], self.norms[name] = value.mean() if samples else value.sum(), norm
        return g / seed_scale if seed_scale != 1 else g

    def weight_gradients(self) -> dict[Slot, Tensor]:
        """T and W."""
        u, s = self.u, self.s
        assert u is not None
        if not self.half:
            return _merged(self.tape.weight_gradients(u, s), self.of_constants)
        # u may be of any size, but the network is made for inputs around 1; a power of two changes no digits.
        largest = u.abs().amax() if s is None else torch.maximum(u.abs().amax(), s.abs().amax())
        factor = torch.exp2(-torch.log2(largest.float()).ceil().clamp(-100, 100)).nan_to_num(1.0, 1.0, 1.0)
        found = self.tape.weight_gradients(u * factor.to(u.dtype), None if s is None else s * factor)
        return _merged(_over(found, factor * HEADROOM), _over(self.of_constants, HEADROOM))


def _over(gradients: dict[Slot, Tensor], factor: Tensor | float) -> dict[Slot, Tensor]:
    return {slot: (gradient.float() / factor).to(gradient.dtype) for slot, gradient in gradients.items()}


def _merged(first: dict[Slot, Tensor], second: dict[Slot, Tensor]) -> dict[Slot, Tensor]:
    """The sums; a tensor may be added in one place and multiply in another."""
    found = dict(first)
    for slot, gradient in second.items():
        found[slot] = found[slot] + gradient if slot in found else gradient
    return found


def _accumulator(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


class _Deposit(torch.autograd.Function):
    """The number `value`, whose gradient with respect to `tensors` is what `gradients()` computes."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Callable[[], list[Tensor | None]], *tensors: Tensor) -> Tensor:
        ctx.gradients = gradients
        ctx.set_materialize_grads(False)
        return value.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, scale: Tensor | None) -> tuple[Tensor | None, ...]:
        if scale is None:
            return (None, None, *[None] * (len(ctx.needs_input_grad) - 2))
        found = ctx.gradients()
        return (None, None, *[None if g is None else g * scale.to(g.dtype) for g in found])


def deposit(value: Tensor, evaluations: Sequence[Evaluation], others: Sequence[tuple[Tensor, Tensor]] = ()) -> Tensor:
    """A scalar equal to `value` whose backward pass runs T and W of the evaluations.

    `others` are outputs that autograd knows (of samples without a penalty), with the gradient that goes into each.
    """
    # A weight may have been used by several evaluations.
    tensors: dict[int, Tensor] = {id(slot.tensor): slot.tensor for e in evaluations for slot in e.tape.slots.values()}

    def gradients() -> list[Tensor | None]:
        found: dict[int, Tensor] = {}
        for evaluation in evaluations:
            for slot, gradient in evaluation.weight_gradients().items():
                key = id(slot.tensor)
                found[key] = found[key] + gradient if key in found else gradient
        return [*(found.get(key) for key in tensors), *(gradient for _, gradient in others)]

    return _Deposit.apply(value, gradients, *tensors.values(), *(output for output, _ in others))
