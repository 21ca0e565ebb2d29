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

from fastgan._torch_private import sequence_number
from fastgan.affine.versions import version_of
from fastgan.nn import statistics_of
from fastgan.ops import penalised_input
from fastgan.penalties.double_backward import leaf
from fastgan.penalties.errors import NotSmoothError
from fastgan.penalties.modules import each_module_of, is_sharded
from fastgan.penalties.one_pass import HEADROOM, power_of_two
from fastgan.penalties.outputs import Form, Outputs
from fastgan.penalties.penalty import Penalty
from fastgan.penalties.smooth_run import SmoothRun, leaves_above, path_of, run_smooth
from fastgan.penalties.state import Snapshot
from fastgan.penalties.tensor_hooks import without_hooks

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
        number = isinstance(self.step, (int, float)) and not isinstance(self.step, bool)
        if self.step is not None and not (number and 0 < self.step < float("inf")):
            raise ValueError(f"Directional: step is {self.step!r}, expected a finite number > 0 or None")


CURVED = 0.03
"""Deviation of D(x + u) - D(x - u) from <2 u, grad D(x)>, relative to it, of which users are told. The gradient's own
error is one to twenty times that of this number."""


NEGLIGIBLE = 1e-6
"""What is too small a part of an objective to tell of: critics whose gradient is 0 but for rounding."""


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
    """The critic at a batch of points where its gradient is penalised.

    All of its samples are displaced by one multiple of v: whether they are coupled (batch statistics) need not be
    known.
    """

    def __init__(
        self, critic: Runner, x: Tensor, rest: Sequence[Any], penalties: Mapping[str, Penalty], at: str
    ) -> None:
        """Runs the critic at the points x, and differentiates what is judged of its output.

        Args:
            critic: the network, and how it is run.
            x, rest: its arguments.
            penalties: those at these points.
            at: whose statistics split batch norms see: `real`, `fake` or a penalty's `at`.

        Raises:
            NotSmoothError: the critic is not known to be smooth; it is left as it was.
        """
        self.critic, self.x, self.rest, self.penalties, self.at = critic, _dense(x.detach()), rest, penalties, at
        with statistics_of(at, critic.network):
            found = run_smooth(critic.network, critic.outputs, self.x, *rest)
        reason = self._refusal(found)
        if reason is not None:
            found.before.put_back()
            raise NotSmoothError(reason)
        self.before, self.lowest, self.outside, self.form = found.before, found.lowest, found.outside, found.form
        self.input = found.x
        self.path = None if found.as_written or critic.compiled else path_of(found.parts)
        self.parts = [y.detach() for y in found.parts]
        self.seeds = self.form.seeds(self.parts, 1.0)
        judged = [(y, seed) for y, seed in zip(found.parts, self.seeds, strict=True) if seed is not None]
        (self.gradient,) = torch.autograd.grad([y for y, _ in judged], self.input, [seed for _, seed in judged])
        self.values: dict[str, Tensor] = {}
        """The mean of each penalty."""
        self.norms: dict[str, Tensor] = {}
        """The norm of each sample's gradient."""

    def _refusal(self, found: SmoothRun) -> str | None:
        if found.reason is not None and not self.critic.options.force:
            return f"directional cannot take differences of this critic: {found.reason}"
        if found.random is not None:
            if self.critic.compiled:
                return f"compiled, {found.random} may draw other numbers at each point; leave compile out"
            if _is_captured(self.x):
                return f"in a captured CUDA graph {found.random} cannot draw the same numbers twice"
        return None

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

    def halves(self, times: float) -> Iterator[Half]:
        """x + u and x - u with the weights of the outputs there; u is `times` as long as it is by itself."""
        u = self._displacement(times)
        plus, minus = (self.x + u).to(self.x.dtype), (self.x - u).to(self.x.dtype)
        across = plus.to(u.dtype) - minus.to(u.dtype)  # 2 u, but for rounding
        along, length = (self.v * across).sum(), (across * across).sum()
        slope = self.slope = torch.where(length > 0, along / length, 0.0)
        self.rises = (self.gradient.to(u.dtype) * across).reshape(len(u), -1).sum(1)  # of D, were it linear
        yield Half(plus, self._weights(slope))
        yield Half(minus, self._weights(-slope))

    def _weights(self, slope: Tensor) -> list[Tensor | None]:
        """Half of the loss's slopes, and `slope` times the derivative of what is penalised, for each part."""
        found: list[Tensor | None] = []
        for s, seed in zip(self.slopes, self.seeds, strict=True):
            half = None if s is None else s.detach().to(torch.promote_types(s.dtype, torch.float32)) / 2
            if seed is not None:
                of_penalty = seed.to(slope.dtype) * slope
                half = of_penalty if half is None else half + of_penalty
            found.append(half)
        return found

    def _displacement(self, times: float) -> Tensor:
        """u: the longest multiple of v that displaces no sample by more than `step` in units of its norm."""
        dims = tuple(range(1, self.v.ndim))
        norms = _norm(self.x.to(self.v.dtype), dims)
        floor = FLOOR * norms.square().mean().sqrt()
        length = times * self._step() * torch.maximum(norms, torch.where(floor > 0, floor, 1.0))
        multiple = (length / _norm(self.v, dims)).amin()  # infinite where v is 0
        return self.v * torch.where(multiple.isfinite(), multiple, 0.0)

    def _step(self) -> float:
        epsilon = epsilon_of(self.lowest, self.x.device)
        step = self.critic.options.step
        if step is not None and step <= epsilon:
            raise ValueError(f"Directional: step is {step}, expected more than {self.lowest}'s rounding, {epsilon:.1e}")
        return step or 0.2 * epsilon ** (1 / 3)

    def outputs(self, times: float = 1.0) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """The parts of the critic's output at each of the two points, from the state that it was in at x, and weights.

        Raises:
            NotSmoothError: the critic has run other operations there than at x, or from another state.
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
            parts = self.run(half.points)
            path = path_of(parts)
            if self.path not in (None, path):
                raise NotSmoothError("the critic takes another path near its samples (a branch that depends on them)")
            self.path = path
            found.append(self.form.numbers([y.detach() for y in parts]).to(self.rises.dtype))
            pairs = zip(parts, half.weights, strict=True)
            yield [(y, w) for y, w in pairs if w is not None and y.requires_grad]
            del parts, pairs  # with what their graph has saved, before the other half runs
        if not self.critic.options.force and not _is_captured(self.x):
            self._check_values(*found)

    def run(self, points: Tensor) -> list[Tensor]:
        """The parts of the critic's output at other points, from the state that it was in at x."""
        self.before.put_back()
        with torch.enable_grad(), statistics_of(self.at, self.critic.network):
            self.input = leaf(points)
            self.since = sequence_number(self.input.view_as(self.input).grad_fn)
            parts, self.form = self.critic.run(self.input, *self.rest)
        return parts

    def _check_values(self, plus: Tensor, minus: Tensor) -> None:
        """Holds the outputs at x + u and x - u against those at x and the gradient there.

        Raises:
            NotSmoothError: they are not those of one function.
        """
        middle = self.form.numbers(self.parts).to(plus.dtype)
        rounding = epsilon_of(self.lowest, self.x.device) * (plus.abs() + minus.abs() + 2 * middle.abs()).sum()
        rise = self.rises.abs().sum()
        bend = ((plus + minus) / 2 - middle).abs().sum()
        away = ((plus - minus).sum() - self.rises.sum()).abs()
        if bool((bend > rise + 4 * rounding) & (self.slope * bend > NEGLIGIBLE)):
            raise NotSmoothError(
                "directional: the critic does not give the same numbers when it runs again (state that cannot be put "
                "back, see docs/gradient-penalties.md), or is curved too much over the step: Directional(step=...)"
            )
        if bool((away > CURVED * rise + rounding) & (self.slope * away > NEGLIGIBLE)):
            warnings.warn(
                "fastgan: method='directional' displaces samples so far that this critic's output departs from a line "
                f"by more than {CURVED:.0%}: its gradient may be wrong by more than that. Directional(estimate=True) "
                "estimates the error, Directional(step=...) sets another step",
                stacklevel=2,
            )

    def pull(self, slopes: Sequence[Tensor]) -> Tensor | None:
        """The gradient of <slopes, judged outputs> with respect to the points, by two more passes; None if changed.

        `remember_weights` has been called.
        """
        if any(version_of(p) != version for p, version in self.versions):
            return None
        now = snapshot_of([self])
        try:
            parts = self.run(self.x)
            of_parts = self.form.slopes_of_judged(slopes, parts)
            pairs = [(y, t.to(y.dtype)) for y, t in zip(parts, of_parts, strict=True) if t is not None]
            return torch.autograd.grad([y for y, _ in pairs], self.input, [t for _, t in pairs])[0]
        finally:
            now.put_back()

    def remember_weights(self) -> None:
        """Notes the weights, which `pull` finds changed after the optimiser's step."""
        modules = each_module_of(self.critic.network)
        self.versions = [(p, version_of(p)) for m in modules for p in m._parameters.values() if p is not None]


def snapshot_of(groups: Sequence[Group]) -> Snapshot:
    """The state of the critic and of the random numbers as they are now, with all that a run overwrites."""
    now = Snapshot(groups[0].critic.network, groups[0].x.device)
    for group in groups:
        for block in group.before.blocks():
            now.add(block)
    now.add_small_tensors()
    return now


def gradient_parts(groups: Sequence[Group], times: float = 1.0) -> list[tuple[Tensor, Tensor]]:
    """Tensors that autograd knows, each with the gradient that goes into it: those of all groups' displaced outputs.

    They are the critic's weights, so that no run is kept longer than its own backward pass. The weights of a sharded
    module are gathered for a backward pass and get their gradient from it: there the displaced outputs themselves.
    """
    if not groups:
        return []
    now = snapshot_of(groups)
    sharded = is_sharded(groups[0].critic.network)
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
        now.put_back(counted=sharded)
    return list(parts.values())


def _weight_gradients(group: Group, outputs: Sequence[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """Of a critic's own leaves, and of weights that were made outside of it, from where autograd goes on."""
    parts, weights = [y for y, _ in outputs], [w for _, w in outputs]
    leaves, older = leaves_above(parts, group.outside, group.since)
    targets = [*group.outside, *(t for t in leaves if t is not group.input)]
    if not targets or not parts:
        return []
    factor = None
    if group.lowest == torch.float16:  # which loses what is small
        factor = HEADROOM * power_of_two(*weights)
        weights = [w.float() * factor for w in weights]
    cotangents = [w.to(y.dtype) for y, w in zip(parts, weights, strict=True)]
    with without_hooks(targets):
        found = torch.autograd.grad(parts, targets, cotangents, allow_unused=True, retain_graph=older)
    pairs = [(t, g) for t, g in zip(targets, found, strict=True) if g is not None]
    return pairs if factor is None else [(t, (g.float() / factor).to(g.dtype)) for t, g in pairs]


def error_between(parts: Sequence[tuple[Tensor, Tensor]], twice: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """The relative error of the gradients `parts`, estimated from those with a step of twice the length.

    The error of a central difference is that of a square: the two differ by three times the first one's.
    """
    others = {id(tensor): gradient for tensor, gradient in twice}
    pairs = [(g, others[id(t)]) for t, g in parts if id(t) in others]
    if not pairs:
        return torch.zeros(())
    difference = torch.stack([torch.linalg.vector_norm(g - other) for g, other in pairs]).norm()
    size = torch.stack([torch.linalg.vector_norm(g) for g, _ in pairs]).norm()
    return torch.where(difference > 0, difference / (3 * size), 0.0)


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


def _is_captured(x: Tensor) -> bool:
    return x.is_cuda and torch.cuda.is_current_stream_capturing()
