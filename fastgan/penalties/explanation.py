"""`explain`: which methods give a critic's exact penalty gradient, and what stands in the way of the others."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fastgan.penalties.checks import arguments, check_critic, check_samples
from fastgan.penalties.eligibility import examine
from fastgan.penalties.outputs import Outputs, Which
from fastgan.penalties.packs import of_packs
from fastgan.penalties.smooth_run import run_smooth
from fastgan.penalties.state import Snapshot
from fastgan.penalties.twice import try_twice


@dataclass(frozen=True)
class Explanation:
    """What `explain` has found.

    Attributes:
        reasons: what stands in the way of one pass, one line for each operation; empty if nothing does.
        operations: how often each kind of recorded operation occurs, for one pass.
        weights: how many tensors the gradient goes to, for one pass.
        numbers: how many numbers the critic gives for each sample, for one pass.
        not_twice: what stands in the way of double backward; None if nothing does.
        not_smooth: what stands in the way of `directional`; None if nothing does.
    """

    reasons: tuple[str, ...]
    operations: dict[str, int]
    weights: int
    numbers: int
    not_twice: str | None
    not_smooth: str | None

    @property
    def eligible(self) -> bool:
        """Whether one pass gives the gradient."""
        return not self.reasons

    @property
    def reason(self) -> str | None:
        """The first of the reasons against one pass."""
        return self.reasons[0] if self.reasons else None

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that give the gradient, the one that `auto` takes first."""
        against = {"one_pass": self.reason, "double_backward": self.not_twice, "directional": self.not_smooth}
        return tuple(method for method, obstacle in against.items() if obstacle is None)

    def __str__(self) -> str:
        if self.eligible:
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.operations.items()))
            lines = ["one pass: piecewise affine in x, sample by sample", f"  {kinds}"]
            lines.append(f"  gradients to {self.weights} weights")
            if self.numbers != 1:
                lines.append(f"  {self.numbers} numbers per sample: six passes, not four")
        else:
            taken = self.methods[0].replace("_", " ") if self.methods else "no method"
            lines = [f"{taken}, because", *(f"  {reason}" for reason in self.reasons)]
        if self.not_twice is not None:
            lines.append(f"double_backward cannot: {self.not_twice}")
        lines.append("directional can" if self.not_smooth is None else f"directional cannot: {self.not_smooth}")
        return "\n".join(lines)


def explain(critic: Callable[..., Any], example: Tensor, labels: Any = None, *, judge: Which = None) -> Explanation:
    """Prints which method `critic_loss` takes for a critic on such a batch, and what stands in the way of the others.

    The critic runs two or three times; what that changes is put back as far as `critic_loss` says. A lazy critic stays
    so.

    Args:
        critic: as for `critic_loss`.
        example: a batch of its input; the values matter only to a critic whose code branches on them.
        labels, judge: as for `critic_loss`.

    Returns:
        What has been found, whose `str` was printed.
    """
    check_critic("explain", critic)
    check_samples("explain", example=example)
    rest = arguments(labels)
    _, network, (batch,) = of_packs("explain", critic, rest, example)
    outputs = Outputs(judge)
    verdict = examine(network, outputs, batch, *rest)
    not_twice = None if verdict.eligible else try_twice(network, (batch, *rest), outputs, verdict)
    not_smooth = _why_not_smooth(network, outputs, batch, *rest)
    found = Explanation(verdict.reasons, verdict.operations, verdict.weights, verdict.numbers, not_twice, not_smooth)
    print(found)
    return found


def _why_not_smooth(network: Callable[..., Any], outputs: Outputs, x: Tensor, *rest: Any) -> str | None:
    before = Snapshot(network, x.device)
    try:
        found = run_smooth(network, outputs, x, *rest)
    except Exception as error:
        before.put_back()
        return f"the critic cannot be followed ({type(error).__name__}: {error})"
    found.before.put_back()
    return found.reason
