"""Chooses between the methods, and falls back to another where one fails."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from fastgan.affine import NotAffineError
from fastgan.penalties.directional import Directional
from fastgan.penalties.eligibility import Verdict, reconsider, verdicts_of
from fastgan.penalties.errors import NoMethodError, NotSmoothError
from fastgan.penalties.outputs import Outputs
from fastgan.penalties.result import CriticLoss
from fastgan.penalties.state import Snapshot
from fastgan.penalties.twice import refusal_in, why_not_twice

METHODS = ("auto", "one_pass", "double_backward", "directional", "random_probe")


def method_of(owner: str, method: str | Directional) -> tuple[str, Directional]:
    """The name of a method, and what `directional` does if it comes to that."""
    if isinstance(method, Directional):
        return "directional", method
    if method not in METHODS:
        raise ValueError(f"{owner}: method is {method!r}, expected one of {', '.join(METHODS)}, or a Directional")
    return method, Directional()


def by_method(
    owner: str,
    method: str,
    network: Callable[..., Any],
    calls: Sequence[tuple],
    outputs: Outputs,
    ways: Mapping[str, Callable[[], CriticLoss]],
) -> CriticLoss:
    """Runs a method, and says in the result which and why.

    Args:
        owner: names the caller in messages.
        method: one of `METHODS`.
        network: the critic.
        calls: the arguments of its calls that are penalised.
        outputs: how what it returns is read.
        ways: what each method but `auto` runs.
    """
    if method == "one_pass":
        return _named(_one_pass(network, calls, outputs, ways), "one_pass", None)
    if method != "auto":
        return _named(ways[method](), method, None)
    verdicts = verdicts_of(network, calls, outputs)
    reason = next((found.reason for found in verdicts if found.reason), None)
    if reason is None:
        attempt = _one_pass_or_reason(owner, network, calls, outputs, verdicts, ways)
        if isinstance(attempt, CriticLoss):
            return _named(attempt, "one_pass", None)
        reason = attempt
    obstacle = why_not_twice(network, calls, outputs, verdicts)
    if obstacle is None:
        try:
            return _named(ways["double_backward"](), "double_backward", reason)
        except RuntimeError as error:
            obstacle = refusal_in(error)
            if obstacle is None:
                raise
            # Only a checkpoint gets here, which no method can take.
            raise NoMethodError(_no_method(owner, reason, obstacle, obstacle)) from error
    try:
        result = ways["directional"]()
    except NotSmoothError as error:
        raise NoMethodError(_no_method(owner, reason, obstacle, str(error))) from error
    return _named(result, "directional", f"{reason}; double backward cannot: {obstacle}")


def _no_method(owner: str, one_pass: str, double_backward: str, directional: str) -> str:
    return (
        f"{owner}: no method has this critic's exact gradient. one_pass: {one_pass}. double_backward: "
        f"{double_backward}. directional: {directional}"
    )


def _named(result: CriticLoss, method: str, reason: str | None) -> CriticLoss:
    result.method, result.reason = method, reason
    return result


def _one_pass(
    network: Callable[..., Any],
    calls: Sequence[tuple],
    outputs: Outputs,
    ways: Mapping[str, Callable[[], CriticLoss]],
) -> CriticLoss:
    """What one pass gives, or an error that says why it gives nothing."""
    try:
        return ways["one_pass"]()
    except Exception as error:
        # A verdict raises what is wrong with the critic itself; what is wrong with the loss has no verdict.
        found = next((found.reason for found in verdicts_of(network, calls, outputs) if found.reason), None)
        if found is None and not isinstance(error, NotAffineError):
            raise
        raise NotAffineError(f"one_pass cannot differentiate this critic: {found or error}") from None


def _one_pass_or_reason(
    owner: str,
    network: Callable[..., Any],
    calls: Sequence[tuple],
    outputs: Outputs,
    verdicts: Sequence[Verdict],
    ways: Mapping[str, Callable[[], CriticLoss]],
) -> CriticLoss | str:
    """What one pass gives; where the critic has changed since its verdict, the reason, with everything put back."""
    before = _before(network, calls, verdicts)
    try:
        return ways["one_pass"]()
    except Exception as error:
        found = next((found.reason for found in verdicts_of(network, calls, outputs) if found.reason), None)
        if found is None and not isinstance(error, NotAffineError):
            raise
        # It was eligible when it was looked at, and has changed since (a flag, a branch that depends on the data).
        lost = before.lost()
        if lost is not None:
            raise RuntimeError(
                f"{owner}: the critic is not affine any more ({error}), and before that was known has changed a "
                f"tensor of shape {list(lost.shape)} in place, of which there is no copy; use "
                "method='double_backward', and put the critic back to where it was"
            ) from error
        before.put_back()
        reason = str(error)
        reconsider(network, calls, outputs, reason)
        warnings.warn(f"fastgan.{owner} falls back to double backward: {error}", stacklevel=5)
        return reason


def _before(network: Callable[..., Any], calls: Sequence[tuple], verdicts: Sequence[Verdict]) -> Snapshot:
    """A snapshot with copies of what an attempt may overwrite: what a trial run has, and all that is small."""
    snapshot = Snapshot(network, calls[0][0].device if calls else torch.device("cpu"))
    for found in verdicts:
        for block in found.overwrites:
            snapshot.add(block)
    snapshot.add_small_tensors()
    return snapshot
