"""Chooses between one pass and double backward, and falls back to double backward where one pass fails."""

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fastgan.affine import NotAffineError
from fastgan.penalties.eligibility import reconsider, verdicts_of
from fastgan.penalties.result import CriticLoss
from fastgan.penalties.state import Footprint


def one_pass_or_double_backward(
    owner: str,
    method: str,
    network: Callable[..., Tensor],
    calls: Sequence[tuple],
    one: Callable[[], CriticLoss],
    double: Callable[[], CriticLoss],
) -> CriticLoss:
    """Runs `one` or `double`, and says in the result which and why.

    Args:
        owner: names the caller in messages.
        method: one of `METHODS`.
        network: the critic.
        calls: the arguments of its calls that are penalised.
        one, double: what each method runs.
    """
    reason, footprints = None, []
    if method == "auto":
        verdicts = verdicts_of(network, calls)
        reason = next((found.reason for found in verdicts if found.reason), None)
        footprints = [found.footprint for found in verdicts]
    if method == "one_pass" or (method == "auto" and reason is None):
        # A critic that turns out to have changed runs again from where it was.
        before = _union(footprints).snapshot(calls[0][0].device if calls else torch.device("cpu"))
        try:
            result = one()
            result.method, result.reason = "one_pass", None
            return result
        except Exception as error:
            # A verdict raises what is wrong with the critic itself; what is wrong with the loss has no verdict.
            found = next((found.reason for found in verdicts_of(network, calls) if found.reason), None)
            if found is None and not isinstance(error, NotAffineError):
                raise
            if method == "one_pass":
                raise NotAffineError(f"one_pass cannot differentiate this critic: {found or error}") from None
            # It was eligible when it was looked at, and has changed since (a flag, a branch that depends on the data).
            before.put_back()
            reason = str(error)
            reconsider(network, calls, reason)
            warnings.warn(f"fastgan.{owner} falls back to double backward: {error}", stacklevel=4)
    result = double()
    result.method, result.reason = "double_backward", reason
    return result


def _union(footprints: Sequence[Footprint]) -> Footprint:
    return Footprint(
        tuple(block for footprint in footprints for block in footprint.blocks),
        tuple(dict.fromkeys(module for footprint in footprints for module in footprint.modules)),
    )
