"""The gradient of loss plus penalties from one forward pass, one gradient pass and one pass with frozen masks.

For a critic that is piecewise affine in x sample by sample, nothing is differentiated twice: docs/gradient-penalties.md
has the derivation. `Evaluation` is one group of samples on its way through the four passes F, X, T and W.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from fastgan._torch_private import backward_keeps_graph
from fastgan.affine import Slot, Tape, record
from fastgan.affine.versions import version_of
from fastgan.ops import penalised_input
from fastgan.penalties.double_backward import drop
from fastgan.penalties.modules import buffers_of
from fastgan.penalties.outputs import ONE, Form, Outputs
from fastgan.penalties.penalty import Penalty

HEADROOM = 16.0
"""float16 loses small numbers below 6e-8 and large ones above 65504: gradients are carried through the network
multiplied by this, in between the loss scales that automatic mixed precision settles on."""


class Recorded(Protocol):
    """A network after its forward pass (F), recorded on a tape or compiled.

    Attributes:
        parts: its outputs, detached: one number for each sample, or several.
        form: what they are parts of.
        differentiable: the outputs as autograd knows them, if it can differentiate them.
        beside: those that do not depend on the input, by whose graph alone their loss has a gradient; None for others.
        apart: whether T and W are of the penalties alone, even where the loss is of the same number.
        weights: the tensors that get a gradient, known after X.
        seed: what gradients are multiplied by on their way through the network.
        leaf: its input, as autograd knows it.
    """

    leaf: Tensor
    parts: list[Tensor]
    form: Form
    differentiable: list[Tensor] | None
    beside: list[Tensor | None]
    apart: bool
    weights: list[Tensor]
    seed: float

    def gradient(self, s: Tensor | None, slopes: Sequence[Tensor | None]) -> Tensor:
        """X: `seed` times the gradient of each sample's number with respect to its input.

        The loss's gradient with respect to that number is s; where no s can tell, with respect to the parts `slopes`.
        """
        ...

    def weight_gradients(
        self, u: Tensor, s: Tensor | None, slopes: Sequence[Tensor | None], factor: Tensor | None
    ) -> list[Tensor | None]:
        """T and W for each weight, and those of the loss for `slopes`; u and s multiplied by `factor` on the way."""
        ...

    def pull(self, slopes: Sequence[Tensor | None]) -> Tensor | None:
        """The gradient of the sum of <slope, part> with respect to the input; None where it is not known."""
        ...


class OnTape:
    """A network recorded in eager mode."""

    def __init__(
        self,
        critic: Callable[..., Any],
        x: Tensor,
        rest: Sequence[Any],
        outputs: Outputs = ONE,
        keep_graph: bool = False,
    ) -> None:
        """`keep_graph`: for autograd to differentiate the outputs too, with the activations that it saves."""
        self.form: Form

        def parts(x: Tensor, *rest: Any) -> list[Tensor]:
            found, self.form = outputs.parts(critic(x, *rest), len(x))
            return found

        found, self.tape = record(parts, x, *rest, buffers=buffers_of(critic), keep_graph=keep_graph)
        self.parts = [y.detach() for y in found]
        self.differentiable = found if keep_graph else None
        values = self.tape.outputs
        self.beside = [y if v is None and y.requires_grad else None for y, v in zip(found, values, strict=True)]
        self.apart = False
        self.leaf = self.tape.leaf
        self.version = version_of(self.leaf)
        if keep_graph:
            self.leaf.register_post_accumulate_grad_hook(drop)
        self.slots: list[Slot]
        self.seed = seed_of(self.tape)

    def gradient(self, s: Tensor | None, slopes: Sequence[Tensor | None]) -> Tensor:
        seeds = self.form.seeds(self.parts, self.seed)
        in_loss = [slope is not None for slope in slopes] or [False] * len(seeds)
        self.slots = self.tape.keep([seed is not None for seed in seeds], in_loss, constants=s is not None)
        self.weights = [slot.tensor for slot in self.slots]
        g, self.of_constants = self.tape.gradient(seeds, s)
        return g

    def weight_gradients(
        self, u: Tensor, s: Tensor | None, slopes: Sequence[Tensor | None], factor: Tensor | None
    ) -> list[Tensor | None]:
        if factor is None:
            found = self.tape.weight_gradients(u, s)
        else:
            found = self.tape.weight_gradients(_times(u, factor), None if s is None else s * factor)
        merged = unscaled(found, self.seed, factor)
        _add(merged, unscaled(self.of_constants, self.seed, None))
        if slopes:
            _add(merged, self._of_loss(slopes))
        return [merged.get(slot) for slot in self.slots]

    def _of_loss(self, slopes: Sequence[Tensor | None]) -> dict[Slot, Tensor]:
        """X, T and W for the loss's own gradient, where no activations were kept: T computes them again."""
        if version_of(self.leaf) != self.version:
            raise RuntimeError(
                f"samples of shape {list(self.leaf.shape)} were modified in place between critic_loss and backward"
            )
        of_penalties = self.tape.take_cotangents()
        if not backward_keeps_graph():
            of_penalties = [None] * len(of_penalties)  # nobody will need them again
        seeds, factor = self._scaled(slopes, self.seed)
        ones = self.leaf.new_ones(len(self.leaf), dtype=torch.promote_types(self.leaf.dtype, torch.float32))
        _, found = self.tape.gradient(seeds, ones)
        _add(found, self.tape.weight_gradients(self.leaf.detach(), ones))
        self.tape.put_cotangents(of_penalties)
        return unscaled(found, self.seed, factor)

    def _scaled(self, slopes: Sequence[Tensor | None], seed: float) -> tuple[Sequence[Tensor | None], Tensor | None]:
        """The slopes times `seed`, and times a power of two for float16, which is returned as well."""
        if self.seed == 1:
            return slopes, None
        factor = power_of_two(*(slope for slope in slopes if slope is not None))
        scaled = [
            None if slope is None else (slope.float() * (factor * seed)).to(y.dtype)
            for slope, y in zip(slopes, self.parts, strict=True)
        ]
        return scaled, factor

    def pull(self, slopes: Sequence[Tensor | None]) -> Tensor | None:
        self.tape.check_versions()
        seeds, factor = self._scaled(slopes, self.seed)
        g, _ = self.tape.gradient(seeds, keep=False)
        return g if factor is None else g.float() / (factor * self.seed)


def seed_of(tape: Tape) -> float:
    """The factor of gradients through this network: `HEADROOM` if a part of it is float16, else 1."""
    return HEADROOM if tape.uses(torch.float16) else 1.0


def unscaled(gradients: dict[Slot, Tensor], seed: float, factor: Tensor | None) -> dict[Slot, Tensor]:
    """The gradients divided by the factors that they were computed with."""
    if factor is None:
        return {k: g if seed == 1 else g / seed for k, g in gradients.items()}
    return {k: (g.float() / (factor * seed)).to(g.dtype) for k, g in gradients.items()}


def _add(found: dict[Slot, Tensor], others: dict[Slot, Tensor]) -> None:
    for slot, gradient in others.items():
        found[slot] = found[slot] + gradient if slot in found else gradient


def power_of_two(*tensors: Tensor) -> Tensor:
    """A power of two that brings the largest number near 1, for which a network's activations are made in float16."""
    largest = torch.stack([tensor.abs().amax().float() for tensor in tensors]).amax()
    return torch.exp2(-torch.log2(largest).ceil()).nan_to_num(1.0, 1.0, 1.0).clamp(2.0**-60, 2.0**60)


class Evaluation:
    """The critic at a batch of points where its gradient is penalised."""

    def __init__(self, x: Tensor, penalties: Mapping[str, Penalty], recorded: Recorded) -> None:
        """`recorded` is the critic after it ran at the points x (F); `penalties` are those at these points."""
        self.x = x.detach()
        self.recorded = recorded
        self.penalties = penalties
        self.values: dict[str, Tensor] = {}
        """The mean of each penalty."""
        self.norms: dict[str, Tensor] = {}
        """The norm of each sample's gradient."""

    def differentiate(self, slopes: Sequence[Tensor | None] = ()) -> Tensor:
        """Computes the critic's gradient (X), the penalties, and the input u = s x + v of the pass T.

        Args:
            slopes: the gradient of the loss with respect to each part of the output; none where the points are not in
                the loss.

        Returns:
            The gradient of D with respect to the points.
        """
        samples, seed = len(self.x), self.recorded.seed
        pairs = list(zip(self.recorded.beside, slopes, strict=True)) if slopes else []
        self.beside = [(y, slope) for y, slope in pairs if y is not None and slope is not None]
        slopes = [None if y is not None else slope for y, slope in pairs]
        accumulator = torch.promote_types(self.x.dtype, torch.float32)
        s = None if self.recorded.apart else self.recorded.form.one_number(slopes)
        self.s = None if s is None else s.detach().to(accumulator)
        in_loss = any(slope is not None for slope in slopes)
        self.slopes = list(slopes) if in_loss and s is None else []
        """The loss's gradient with respect to each part where it is no multiple of the penalties'."""
        if not self.slopes:
            self.recorded.differentiable = None  # with the activations that autograd has saved
        g = self.recorded.gradient(self.s, [] if self.by_autograd else self.slopes)
        self.u: Tensor | None = None
        for name, penalty in self.penalties.items():
            once = self.s if self.u is None else None
            u, value, norm = penalised_input(
                g, self.x, once, *penalty.rho, scale=1 / max(samples, 1), grad_scale=1 / seed
            )
            self.u = u if self.u is None else self.u + u
            self.values[name], self.norms[name] = value.mean(), norm
        return g if seed == 1 else g / seed

    @property
    def by_autograd(self) -> bool:
        """Whether the loss's gradient goes through autograd beside the penalties'."""
        return bool(self.slopes) and self.recorded.differentiable is not None

    def of_loss(self) -> list[tuple[Tensor, Tensor]]:
        """The outputs that autograd differentiates, with the gradient that goes into each."""
        pairs = zip(self.recorded.differentiable or (), self.slopes, strict=True) if self.by_autograd else ()
        return self.beside + [(y, slope) for y, slope in pairs if slope is not None and y.requires_grad]

    def pull(self, slopes: Sequence[Tensor]) -> Tensor | None:
        """The gradient with respect to the points for those with respect to what is judged; None where not known."""
        recorded = self.recorded
        return recorded.pull(recorded.form.slopes_of_judged(slopes, recorded.parts))

    def weight_gradients(self) -> list[Tensor | None]:
        """The gradient of each of the recorded network's weights (T and W)."""
        assert self.u is not None
        factor = None
        if self.recorded.seed != 1:
            factor = power_of_two(self.u) if self.s is None else power_of_two(self.u, self.s)
        return self.recorded.weight_gradients(self.u, self.s, [] if self.by_autograd else self.slopes, factor)


class _Deposit(torch.autograd.Function):
    """The scalar `value`, whose gradient with respect to `tensors` is what `gradients()` returns."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Callable[[], list[Tensor | None]], *tensors: Tensor) -> Tensor:
        ctx.gradients, ctx.tensors = gradients, tensors
        ctx.set_materialize_grads(False)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, scale: Tensor | None) -> tuple[Tensor | None, ...]:
        if scale is None:
            return (None,) * len(ctx.needs_input_grad)
        tensors = ctx.tensors
        with torch.no_grad():
            found = _Deposit.scaled(ctx, scale)
        return (None, None, *(None if g is None else not_again(g, scale, *tensors) for g in found))

    @staticmethod
    def scaled(ctx: Any, scale: Tensor) -> list[Tensor | None]:
        """The gradients times that of the result."""
        if ctx.gradients is None:
            raise RuntimeError(
                "critic_loss: backward was called a second time, after the masks and cotangents were freed; "
                "call backward(retain_graph=True) the first time"
            )
        found = ctx.gradients()
        if not backward_keeps_graph():
            ctx.gradients = ctx.tensors = None
        if scale.device.type == "cpu" and scale.item() == 1:  # reading it costs nothing there
            return found
        return [None if g is None else _times(g, scale) for g in found]


def _times(gradient: Tensor, scale: Tensor) -> Tensor:
    """gradient * scale, in float32 for half precision: a loss scale of 2^16 is infinite in float16."""
    if gradient.dtype in (torch.float16, torch.bfloat16):
        return (gradient.float() * scale.float()).to(gradient.dtype)
    return gradient * scale.to(gradient.dtype)


def not_again(gradient: Tensor, *depends_on: Tensor) -> Tensor:
    """The gradient for an autograd function's backward to return; differentiating it with respect to what it depends on
    raises."""
    if not torch.is_grad_enabled():
        return gradient
    return _NotAgain.apply(gradient, gradient.new_zeros(()).requires_grad_(), *depends_on)


class _NotAgain(torch.autograd.Function):
    """A gradient whose backward raises: its dependence on the weights was not recorded.

    autograd visits a node only on its way to what is asked for, so that this one must lead there.
    """

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *depends_on: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> Any:
        raise RuntimeError(
            "critic_loss: the gradient of one_pass cannot be differentiated again; use method='double_backward'"
        )


def deposit(value: Tensor, evaluations: Sequence[Evaluation], others: Sequence[tuple[Tensor, Tensor]] = ()) -> Tensor:
    """A scalar equal to `value` whose backward pass runs T and W of the evaluations.

    `others` are outputs that autograd knows (of samples without a penalty), with the gradient that goes into each.
    """
    # A weight may have been used by several evaluations.
    tensors = {id(weight): weight for evaluation in evaluations for weight in evaluation.recorded.weights}
    if not tensors and not others:  # a frozen critic's: `.backward()` has nothing to do, and is no error
        with torch.enable_grad():
            others = [(value.new_zeros(()).requires_grad_(), torch.zeros_like(value))]

    def gradients() -> list[Tensor | None]:
        found: dict[int, Tensor] = {}
        for evaluation in evaluations:
            for weight, gradient in zip(evaluation.recorded.weights, evaluation.weight_gradients(), strict=True):
                if gradient is not None:
                    key = id(weight)
                    found[key] = found[key] + gradient if key in found else gradient
        return [*(found.get(key) for key in tensors), *(gradient for _, gradient in others)]

    return _Deposit.apply(value, gradients, *tensors.values(), *(output for output, _ in others))
