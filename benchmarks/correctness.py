"""Checks an implementation's outputs and gradients against float64, on the very inputs that are timed.

The truth is the reference in float64, on the same (rounded) inputs. Each tensor (the output, every first and every
second derivative) is judged by itself, its errors relative to the truth's largest value: the root mean square may be
twice that of eager PyTorch in the same dtype (at least half a unit in the last place, where PyTorch happens to be
exact), the worst element twice eager's worst or four units in the last place. These are the floors of
tests/ops/test_accuracy.py; float64 is judged by its absolute bound, 1e-13.

The root mean square over a few elements is luck on both sides: of a single number (the gradient of a noise's strength)
the last rounding alone is anywhere from nothing to half a unit in the last place. Where only such tensors are off on
the inputs that are timed, they are judged by the same rule over DRAWS draws of the inputs, the timed ones among them,
as one tensor: as the test does with all its samples. (Not always, since a draw of the largest shape takes a minute.)

torch.compile is not ours to repair, and its sums are a little less accurate than eager's (a bias gradient of 65,536
terms: about 1e-6). As a baseline it must compute the same function, so it is allowed BASELINE_SLACK times as much; its
errors stand in the results. Being faster by being less accurate makes our speed-up over it smaller, never larger.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.cases import Case, Inputs, run

BASELINE_SLACK = 16

FEW = 16  # a tensor of fewer elements is judged over several draws
DRAWS = 16  # of equally accurate results, the root mean square of one is twice the other's in 1 of 200 such samples

INDEPENDENT = {"minibatch_discrimination": 1}
"""Op -> the dimension of all its tensors along which nothing interacts.

The float64 composition of the large shapes would not fit in memory, so it is computed for one index of this dimension
at a time (a kernel k of minibatch discrimination) and put together again: every element is still checked.
"""


@dataclass(frozen=True)
class Errors:
    """Errors of one tensor, relative to the largest value of the truth."""

    worst: float
    rms: float


def exact(case: Case, inputs: Inputs, stage: str) -> list[Tensor]:
    """The exact results of a stage, in float64."""
    return _reference(case, inputs.map(Tensor.double), stage)


def plain(case: Case, inputs: Inputs, stage: str) -> list[Tensor]:
    """The results of eager PyTorch, computed in slices: for shapes where eager itself runs out of memory."""
    return _reference(case, inputs, stage)


def _reference(case: Case, inputs: Inputs, stage: str) -> list[Tensor]:
    dim = INDEPENDENT.get(case.spec.name)
    if dim is None:
        return _filled(run(case.reference, inputs, stage), inputs)
    slices = []
    for index in range(inputs.cotangents[0].shape[dim]):
        part = inputs.map(partial(torch.narrow, dim=dim, start=index, length=1))
        slices.append(_filled(run(case.reference, part, stage), part))
    return [torch.cat(pieces, dim) for pieces in zip(*slices, strict=True)]


def _filled(outputs: Sequence[Tensor | None], inputs: Inputs) -> list[Tensor]:
    """None written out as zeros; only the second derivatives, which come last and in this order, can be None."""
    like = [*inputs.given, *inputs.cotangents]
    start = len(outputs) - len(like)
    return [torch.zeros_like(like[i - start]) if t is None else t.detach() for i, t in enumerate(outputs)]


def errors(outputs: Sequence[Tensor | None], truth: Sequence[Tensor]) -> list[Errors]:
    """The errors of each tensor; infinite for a wrong shape, a NaN, or a number of tensors that differs."""
    infinite = Errors(float("inf"), float("inf"))
    if len(outputs) != len(truth):
        return [infinite] * len(truth)
    found = []
    for output, expected in zip(outputs, truth, strict=True):
        value = torch.zeros_like(expected) if output is None else output.detach()
        if value.shape != expected.shape:
            found.append(infinite)
            continue
        if not expected.numel():
            found.append(Errors(0.0, 0.0))
            continue
        largest = expected.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
        difference = (value.double() - expected) / largest
        worst, rms = difference.abs().max().item(), difference.square().mean().sqrt().item()
        found.append(Errors(worst, rms) if worst == worst else infinite)
    return found


def complaint(ours: list[Errors], eager: list[Errors], dtype: torch.dtype, slack: float = 1) -> str | None:
    """One sentence on the first tensor that is off by more than `slack` times what is allowed, or None."""
    return next(iter(_complaints(ours, eager, dtype, slack).values()), None)


def _complaints(ours: list[Errors], eager: list[Errors], dtype: torch.dtype, slack: float) -> dict[int, str]:
    """Such a sentence on every tensor that is off, by its index."""
    complaints: dict[int, str] = {}
    eps = torch.finfo(dtype).eps
    for i, (found, yardstick) in enumerate(zip(ours, eager, strict=True)):
        worst_allowed, rms_allowed = _allowed(yardstick.worst, 4 * eps), _allowed(yardstick.rms, eps / 2)
        if dtype == torch.float64:  # eager is the truth itself, up to the order of its sums
            worst_allowed = rms_allowed = 1e-13
        for what, error, allowed in (("worst", found.worst, worst_allowed), ("rms", found.rms, rms_allowed)):
            if not error <= slack * allowed:
                complaints.setdefault(i, f"tensor {i}: {what} error {error:.2g}, allowed {slack * allowed:.2g}")
    return complaints


def _allowed(yardstick: float, floor: float) -> float:
    return max(2 * yardstick, floor) if yardstick < float("inf") else floor


def judge(
    implementation: str,
    function: Callable[..., Tensor],
    case: Case,
    inputs: Inputs,
    stage: str,
    truth: list[Tensor],
    eager: list[Errors],
) -> tuple[list[Errors], str | None]:
    """Runs a stage (which also warms it up); returns its errors on `inputs` and what is wrong with them."""
    outputs = run(function, inputs, stage)
    slack = BASELINE_SLACK if implementation == "compile" else 1
    for y, cotangent in zip(outputs, inputs.cotangents, strict=False):  # the gradients' dtypes are autograd's business
        if y is None or y.dtype != cotangent.dtype:
            return [], f"returns {y if y is None else y.dtype}, expected {cotangent.dtype}"
    found, dtype = errors(outputs, truth), inputs.given[0].dtype
    complaints = _complaints(found, eager, dtype, slack)
    doubtful = [i for i in complaints if truth[i].numel() < FEW and found[i].worst < float("inf")]
    if doubtful and len(doubtful) == len(complaints):
        again = complaint(*_over_draws(case, function, stage, doubtful), dtype, slack)
        return found, again and f"of tensors {doubtful} over {DRAWS} draws, {again}"
    return found, next(iter(complaints.values()), None)


def _over_draws(
    case: Case, function: Callable[..., Tensor], stage: str, few: list[int]
) -> tuple[list[Errors], list[Errors]]:
    """The errors of some of a stage's tensors and those of eager's, each stacked over draws of the inputs."""
    evaluations = (exact, plain, lambda _, inputs, stage: _filled(run(function, inputs, stage), inputs))
    draws: list[list[list[Tensor]]] = [[] for _ in evaluations]
    for draw in range(DRAWS):
        inputs = case.inputs(draw)
        for kept, evaluate in zip(draws, evaluations, strict=True):
            outputs = evaluate(case, inputs, stage)
            kept.append([outputs[i] for i in few])  # the large ones are released
    truth, eager, ours = ([torch.stack(tensors) for tensors in zip(*kept, strict=True)] for kept in draws)
    return errors(ours, truth), errors(eager, truth)
