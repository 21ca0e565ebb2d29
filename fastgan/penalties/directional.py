"""The gradient of loss plus penalties by central differences along v: first derivatives only, for smooth critics.

With v_i = drho_i/dg_i held constant, the penalty's gradient with respect to the weights is the derivative of
grad_theta D along v (docs/gradient-penalties.md). A difference of grad_theta D between x + u and x - u, u a small
multiple of v, takes a forward and an ordinary backward pass at either point. `Group` is one batch of points.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastgan._torch_private import is_fully_sharded, sequence_number
from fastgan.nn import statistics_of
from fastgan.ops import penalised_input
from fastgan.penalties.double_backward import leaf
from fastgan.penalties.errors import NotSmoothError
from fastgan.penalties.modules import each_module_of
from fastgan.penalties.objective import leaves_of
from fastgan.penalties.one_pass import HEADROOM
from fastgan.penalties.outputs import Form, Outputs
from fastgan.penalties.penalty import Penalty
from fastgan.penalties.smooth_trial import measured, path_of, smooth_verdict_of, verdict_on_path
from fastgan.penalties.state import Snapshot

FLOOR = 0.1
"""Share of the batch's root mean square norm that a sample's own norm is taken for at least."""


@dataclass(frozen=True)
class Directional:
    """`method="directional"` with other settings than its own.

    Attributes:
        step: the length of the displacement u_i in units of the sample's norm ||x_i|| (at least a tenth of the batch's
            root mean square norm). Default: 0.2 times the cube root of the machine epsilon of the least precise dtype
            that the critic computes in, where the errors of rounding (epsilon / step) and of the difference (step^2)
            meet: 1.2e-6 for float64, 1e-3 for float32, 0.02 for float16 and TF32, 0.04 for bfloat16.
        force: take a critic that is not known to be smooth. Every kink that is crossed between x - u and x + u then
            adds its jump times ||v|| / (2 ||u||), which no step makes small.
        estimate: compute `CriticLoss.error_estimate` too, from a second step of twice the length: twice the time.
    """

    step: float | None = None
    force: bool = False
    estimate: bool = False

    def __post_init__(self) -> None:
        if self.step is not None and not 0 < self.step < float("inf"):
            raise ValueError(f"Directional: step is {self.step!r}, expected a finite number > 0 or None")


CURVED = 0.03
"""Deviation of D(x + u) - D(x - u) from <2 u, grad D(x)>, relative to it, of which users are told. The gradient's own
error is one to twenty times that of this number."""


class Half(NamedTuple):
    """A displaced batch: the gradient of the objective is that of the sum of weights * D(points).

    Attributes:
        points: [B, ...].
        weights: one like each part of the critic's output; None for zero.
    """

    points: Tensor
    weights: list[Tensor | None]


class Runner(NamedTuple):
    """A critic, and how it is run.

    Attributes:
        network: the critic inside its wrappers.
        outputs: how what it returns is read.
        options: how long displacements are.
        run: calls the network, compiled or not: the parts of its output and their form.
        compiled: whether `run` compiles it.
    """

    network: Callable[..., Any]
    outputs: Outputs
    options: Directional
    run: Callable[..., tuple[list[Tensor], Form]]
    compiled: bool


class Group:
    """The critic at a batch of points where its gradient is penalised."""

    def __init__(
        self,
        critic: "Runner",
        x: Tensor,
        rest: Sequence[Any],
        penalties: Mapping[str, Penalty],
        at: str,
    ) -> None:
        """Runs the critic at the points x, and differentiates what is judged of its output.

        Args:
            critic: the network, and how it is run.
            x, rest: its arguments.
            penalties: those at these points.
            at: whose statistics split batch norms see: `real`, `fake` or a penalty's `at`.

        Raises:
            NotSmoothError: the critic is not known to be smooth.
        """
        self.critic, self.x, self.rest, self.penalties, self.at = critic, _dense(x.detach()), rest, penalties, at
        network, outputs, call = critic.network, critic.outputs, (self.x, *rest)
        self.verdict = smooth_verdict_of(network, outputs, call)
        self._check()
        self.before = self.snapshot()
        parts, self.path = self._run(self.x)
        self.verdict = verdict_on_path(network, outputs, call, self.verdict, self.path)
        self._check()
        self.parts = [y.detach() for y in parts]
        self.seeds = self.form.seeds(self.parts, 1.0)
        judged = [(y, seed) for y, seed in zip(parts, self.seeds, strict=True) if seed is not None]
        (self.gradient,) = torch.autograd.grad([y for y, _ in judged], self.input, [seed for _, seed in judged])
        self.values: dict[str, Tensor] = {}
        """The mean of each penalty."""
        self.norms: dict[str, Tensor] = {}
        """The norm of each sample's gradient."""

    def _check(self) -> None:
        verdict = self.verdict
        if verdict.reason is not None and not self.critic.options.force:
            raise NotSmoothError(f"directional cannot take differences of this critic: {verdict.reason}")
        if verdict.random is not None:
            if self.critic.compiled:
                raise NotSmoothError(
                    f"compiled, {verdict.random} would draw other numbers at either point; leave compile out"
                )
            if self.x.is_cuda and torch.cuda.is_current_stream_capturing():
                raise NotSmoothError(
                    f"while a CUDA graph is captured, {verdict.random} cannot draw the same numbers twice"
                )

    def snapshot(self) -> Snapshot:
        """The state of the critic and of the random numbers as they are now."""
        kept = Snapshot(self.critic.network, self.x.device)
        for block in self.verdict.overwrites:
            kept.add(block)
        kept.add_small_tensors()
        return kept

    def _run(self, points: Tensor) -> tuple[list[Tensor], tuple[str, ...]]:
        self.input = leaf(points)
        self.since = sequence_number(self.input.view_as(self.input).grad_fn)
        with torch.enable_grad(), statistics_of(self.at, self.critic.network):
            parts, self.form = self.critic.run(self.input, *self.rest)
        return parts, path_of(parts)

    def differentiate(self, slopes: Sequence[Tensor | None] | None = None) -> None:
        """Computes the penalties and v. `slopes` is dl/dD for each part; None where the points are not in the loss."""
        self.slopes = [None] * len(self.parts) if slopes is None else slopes
        wide = torch.promote_types(self.x.dtype, torch.float32)
        g, x = self.gradient.to(wide), self.x.to(wide)
        self.v = torch.zeros_like(x)
        for name, penalty in self.penalties.items():
            v, value, self.norms[name] = penalised_input(g, x, None, *penalty.rho, scale=1 / max(len(x), 1))
            self.v += v
            self.values[name] = value.mean()

    def halves(self, times: float = 1.0) -> Iterator[Half]:
        """x + u and x - u with the weights of the outputs there; u is `times` as long as it is by itself."""
        u = self._displacement(times)
        plus, minus = (self.x + u).to(self.x.dtype), (self.x - u).to(self.x.dtype)
        across = plus.to(u.dtype) - minus.to(u.dtype)  # 2 u, but for rounding
        dims = None if self.verdict.coupled else tuple(range(1, u.ndim))
        along, length = _sum(self.v * across, dims), _sum(across * across, dims)
        slope = torch.where(length > 0, along / length, 0.0)
        self.rise = _sum(self.gradient.to(u.dtype) * across, dims)  # of what is penalised, were it linear
        yield Half(plus, self._weights(slope))
        yield Half(minus, self._weights(-slope))

    def _weights(self, slope: Tensor) -> list[Tensor | None]:
        """Half of the loss's slopes, and `slope` times the derivative of what is penalised, for each part."""
        found: list[Tensor | None] = []
        for s, seed in zip(self.slopes, self.seeds, strict=True):
            half = None if s is None else s.detach().to(torch.promote_types(s.dtype, torch.float32)) / 2
            if seed is not None:
                of_penalty = seed.to(slope.dtype) * slope.reshape(-1, *[1] * (seed.ndim - 1))
                half = of_penalty if half is None else half + of_penalty
            found.append(half)
        return found

    def _displacement(self, times: float) -> Tensor:
        """u: along v, of the length `step` in units of the norm of x_i; one multiple of v where samples are coupled."""
        dims = tuple(range(1, self.v.ndim))
        norms = _norm(self.x.to(self.v.dtype), dims)
        floor = FLOOR * norms.square().mean().sqrt()
        length = times * self._step() * torch.maximum(norms, torch.where(floor > 0, floor, 1.0))
        multiple = length / _norm(self.v, dims)  # infinite where v is 0
        if self.verdict.coupled:
            multiple = multiple.amin()
        return self.v * torch.where(multiple.isfinite(), multiple, 0.0)

    def _step(self) -> float:
        return self.critic.options.step or 0.2 * epsilon_of(self.verdict.lowest, self.x.device) ** (1 / 3)

    def outputs(self, times: float = 1.0) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """The parts of the critic's output at each of the two points, from the state that it was in at x, and weights.

        Raises:
            NotSmoothError: the critic has run other operations there than at x.
            RuntimeError: it has changed a tensor in place of which there is no copy.
        """
        lost = self.before.lost()
        if lost is not None:
            raise RuntimeError(
                f"directional: the critic has changed a tensor of shape {list(lost.shape)} in place, of which there is "
                "no copy to start the displaced runs from; use method='double_backward'"
            )
        found = []
        for half in self.halves(times):
            self.before.put_back()
            parts, path = self._run(half.points)
            if path != self.path:
                raise NotSmoothError("the critic takes another path near its samples (a branch that depends on them)")
            found.append(self.form.numbers([y.detach() for y in parts]).to(self.rise.dtype))
            pairs = zip(parts, half.weights, strict=True)
            yield [(y, w) for y, w in pairs if w is not None and y.requires_grad]
            del parts, pairs  # with what their graph has saved, before the other half runs
        if not self.verdict.measured and not self.critic.options.force:
            self._warn_if_curved(*found)

    def _warn_if_curved(self, plus: Tensor, minus: Tensor) -> None:
        """Tells once for each kind of call if the critic is far from linear between the displaced points."""
        call = (self.x, *self.rest)
        self.verdict = measured(self.critic.network, self.critic.outputs, call, self.verdict)
        difference, size = plus - minus, plus.abs() + minus.abs()
        weight = _norm(self.v, tuple(range(1, self.v.ndim))).reshape(-1)
        if self.verdict.coupled:
            difference, size, weight = difference.sum(), size.sum(), weight.new_ones(())
        rounding = epsilon_of(self.verdict.lowest, self.x.device) * size
        away = ((difference - self.rise).abs() - rounding).clamp(min=0)
        deviation = ((weight * away).sum() / (weight * self.rise.abs()).sum()).item()
        if deviation > CURVED:
            warnings.warn(
                f"fastgan: method='directional' displaces samples by {self._step():.1e} of their norms, over which "
                f"this critic's output departs from a line by {deviation:.1%}: its gradient may be wrong by more than "
                "that. Directional(estimate=True) estimates the error, Directional(step=...) sets another step",
                stacklevel=2,
            )


def gradient_parts(groups: Sequence[Group], times: float = 1.0) -> list[tuple[Tensor, Tensor]]:
    """Tensors that autograd knows, each with the gradient that goes into it: those of all groups' displaced outputs.

    They are the critic's weights, so that no run is kept longer than its own backward pass. The weights of a sharded
    module are gathered for a backward pass and get their gradient from it: there the displaced outputs themselves.
    """
    if not groups:
        return []
    after = groups[0].snapshot()
    sharded = any(is_fully_sharded(module) for module in each_module_of(groups[0].critic.network))
    parts: dict[int, tuple[Tensor, Tensor]] = {}
    try:
        for group in groups:
            for outputs in group.outputs(times):
                pairs = [(y, w.to(y.dtype)) for y, w in outputs] if sharded else _weight_gradients(group, outputs)
                del outputs
                for tensor, gradient in pairs:
                    known = parts.get(id(tensor))
                    parts[id(tensor)] = tensor, gradient if known is None else known[1] + gradient
    finally:
        after.put_back(counted=sharded)
    return list(parts.values())


def _weight_gradients(group: Group, outputs: Sequence[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    parts, weights = [y for y, _ in outputs], [w for _, w in outputs]
    leaves = {id(t): t for y in parts for t in leaves_of(y) if t is not group.input}
    if not leaves:
        return []
    factor = None
    if group.verdict.lowest == torch.float16:  # which loses what is small
        largest = torch.stack([w.abs().amax().float() for w in weights]).amax()
        factor = HEADROOM * torch.exp2(-torch.log2(largest).ceil()).nan_to_num(1.0, 1.0, 1.0)
        weights = [w.float() * factor for w in weights]
    cotangents = [w.to(y.dtype) for y, w in zip(parts, weights, strict=True)]
    # What the critic's weights were made of outside of it is another's graph, and stays.
    keep = any(_has_older_nodes(y, group.since) for y in parts)
    found = torch.autograd.grad(parts, list(leaves.values()), cotangents, allow_unused=True, retain_graph=keep)
    pairs = [(t, g) for t, g in zip(leaves.values(), found, strict=True) if g is not None]
    return pairs if factor is None else [(t, (g.float() / factor).to(g.dtype)) for t, g in pairs]


def _has_older_nodes(y: Tensor, since: int) -> bool:
    """Whether autograd's graph below a tensor has nodes that were made before the node of this sequence number."""
    seen: set[Any] = set()
    waiting = [y.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            if sequence_number(node) < since:
                return True
            seen.add(node)
            waiting.extend(below for below, _ in node.next_functions)
    return False


def error_between(parts: Sequence[tuple[Tensor, Tensor]], twice: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """The relative error of the gradients `parts`, estimated from those with a step of twice the length.

    The error of a central difference is that of a square: the two differ by three times the first one's.
    """
    others = {id(tensor): gradient for tensor, gradient in twice}
    differences = torch.stack([torch.linalg.vector_norm(g - others[id(t)]) for t, g in parts])
    norms = torch.stack([torch.linalg.vector_norm(g) for _, g in parts])
    return torch.linalg.vector_norm(differences) / (3 * torch.linalg.vector_norm(norms))


def epsilon_of(dtype: torch.dtype, device: torch.device) -> float:
    """The relative rounding error of what is computed in a dtype; a GPU may multiply float32 as TF32."""
    epsilon = torch.finfo(dtype).eps
    if dtype == torch.float32 and device.type == "cuda" and _allows_tf32():
        return 2.0**-10
    return epsilon


def _allows_tf32() -> bool:
    try:
        return torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32
    except RuntimeError:  # set by the newer interface, which the older one does not read
        return True


def _dense(x: Tensor) -> Tensor:
    """x itself, or a copy if it has gaps: what is computed from it has none, and would be read by other operations."""
    return x if torch.ops.aten.is_non_overlapping_and_dense.default(x) else x.clone()


def _norm(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The norm of each sample, [B, 1, ...]."""
    return torch.linalg.vector_norm(x, dim=dims, keepdim=True) if dims else x.abs()


def _sum(x: Tensor, dims: tuple[int, ...] | None) -> Tensor:
    """The sum over some dimensions, over none for (), over all for None."""
    return x.sum() if dims is None else x.sum(dims) if dims else x
