"""Chooses between one pass and double backward, and falls back to double backward where one pass fails."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch

from fastgan.affine import NotAffineError
from fastgan.penalties.eligibility import Verdict, reconsider, verdicts_of
from fastgan.penalties.outputs import Outputs
from fastgan.penalties.result import CriticLoss
from fastgan.penalties.state import Snapshot


def one_pass_or_double_backward(
    owner: str,
    method: str,
    network: Callable[..., Any],
    calls: Sequence[tuple],
    outputs: Outputs,
    one: Callable[[], CriticLoss],
    double: Callable[[], CriticLoss],
) -> CriticLoss:
    """Runs `one` or `double`, and says in the result which and why.

    Args:
        owner: names the caller in messages.
        method: one of `METHODS`.
        network: the critic.
        calls: the arguments of its calls that are penalised.
        outputs: how what it returns is read.
        one, double: what each method runs.
    """
    reason, verdicts = None, []
    if method == "auto":
        verdicts = verdicts_of(network, calls, outputs)
        reason = next((found.reason for found in verdicts if found.reason), None)
    if method == "one_pass" or (method == "auto" and reason is None):
        # A critic that turns out to have changed runs again from where it was.
        before = _before(network, calls, verdicts) if method == "auto" else None
        try:
            result = one()
            result.method, result.reason = "one_pass", None
            return result
        except Exception as error:
            # A verdict raises what is wrong with the critic itself; what is wrong with the loss has no verdict.
            found = next((found.reason for found in verdicts_of(network, calls, outputs) if found.reason), None)
            if found is None and not isinstance(error, NotAffineError):
                raise
            if before is None:
                raise NotAffineError(f"one_pass cannot differentiate this critic: {found or error}") from None
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
            warnings.warn(f"fastgan.{owner} falls back to double backward: {error}", stacklevel=4)
    result = double()
    result.method, result.reason = "double_backward", reason
    return result


def _before(network: Callable[..., Any], calls: Sequence[tuple], verdicts: Sequence[Verdict]) -> Snapshot:
    """A snapshot with copies of what an attempt may overwrite: what a trial run has, and all that is small."""
    snapshot = Snapshot(network, calls[0][0].device if calls else torch.device("cpu"))
    for found in verdicts:
        for block in found.overwrites:
            snapshot.add(block)
    snapshot.add_small_tensors()
    return snapshot
