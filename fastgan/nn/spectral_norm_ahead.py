"""Normalised weights at the moment of their use, most of them computed ahead by one call for a whole network.

A use iterates u and v and divides the weight by the sigma that they give: a function of weight, u and v alone. So it
may be computed before it is known whether the use will come. What is computed ahead leaves u and v as they are; a use
writes them, if weight, u and v are still those that its numbers were computed from. What nobody uses is forgotten, as
if it had never been computed.
"""

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fastgan._torch_private import foreach_copy_
from fastgan.nn.spectral_norm_checkpoints import computed_again, recall, remember
from fastgan.ops.spectral_norm import estimates
from fastgan.ops.spectral_norm.autograd import Estimate, divided


class Operands(NamedTuple):
    """The inputs of one spectral normalisation of a weight, as they are now.

    Attributes:
        owner, name: the module that normalises the weight, and which of its weights this is.
        weight, u, v, dim, iterations, eps, v_first: as for `fastgan.ops.spectral_norm`. u may be [1, rows]; v is None
            where nobody keeps it, and the first iteration computes it from u.
        writes: whether u and v after the iterations replace those before.
    """

    owner: nn.Module
    name: str
    weight: Tensor
    u: Tensor
    v: Tensor | None
    dim: int
    iterations: int
    eps: float
    v_first: bool
    writes: bool

    @property
    def key(self) -> tuple[nn.Module, str]:
        return self[:2]

    def vectors(self) -> tuple[Tensor, Tensor]:
        """u [rows] and v [columns]."""
        u, v = self.u, self.v
        if v is None:  # written before it is read
            v = self.weight.new_empty(self.weight.numel() // max(self.weight.shape[self.dim], 1))
        return u if u.ndim == 1 else u.view(-1), v


class _Ahead(NamedTuple):
    """A result computed ahead of a weight's use, with the inputs that it was computed from."""

    operands: Operands
    versions: tuple[int, ...]
    estimate: Estimate

    def holds(self, now: Operands) -> bool:
        """Whether a use now has the inputs that this was computed from."""
        then = self.operands
        return (
            now.weight is then.weight
            and now.u is then.u
            and now.v is then.v
            and now[5:] == then[5:]
            and _versions(now) == self.versions
            and (torch.is_inference_mode_enabled() or not self.estimate.u.is_inference())
        )


def _versions(operands: Operands) -> tuple[int, ...]:
    """The version counters of the inputs."""
    _, _, weight, u, v, *_ = operands
    if weight.is_inference() or u.is_inference():  # whose changes nobody counts
        return ()
    return weight._version, u._version, -1 if v is None else v._version


class ForwardPass:
    """One forward pass of a network, some of whose weights have been computed ahead.

    Attributes:
        of: the network, and who computes ahead: there may be several.
        names: by the weights' keys, what to call them in `used`.
        used: the names of the weights that were used.
    """

    def __init__(self, of: tuple[nn.Module, object], names: dict[Any, Any], expected: Sequence[Operands]) -> None:
        self.of, self.names = of, names
        self.used: set[Any] = set()
        self._ahead = {
            operands.key: _Ahead(operands, _versions(operands), estimate)
            for operands, estimate in zip(expected, _estimated(expected), strict=True)
        }

    def take(self, now: Operands) -> Estimate | None:
        """The result computed ahead for this use, which is given once; None without one."""
        self.used.add(self.names[now.key])
        ahead = self._ahead.pop(now.key, None)
        return ahead.estimate if ahead is not None and ahead.holds(now) else None


class _Running(threading.local):
    def __init__(self) -> None:
        self.passes: list[ForwardPass] = []


_running = _Running()
"""The running forward passes of this thread, the innermost last."""


def begin(forward_pass: ForwardPass) -> None:
    """Starts a forward pass; drops an unfinished one of the same network, whose layers then compute alone."""
    passes = _running.passes
    passes[:] = [each for each in passes if each.of != forward_pass.of]
    passes.append(forward_pass)


def end(of: tuple[nn.Module, object]) -> ForwardPass | None:
    """Ends a forward pass, and those inside it that an exception left unfinished."""
    passes = _running.passes
    for i in reversed(range(len(passes))):
        if passes[i].of == of:
            found = passes[i]
            del passes[i:]
            return found
    return None


def normalised(now: Operands) -> tuple[Tensor, Tensor]:
    """(weight / sigma, sigma) for one use of a weight: computed ahead if its inputs are unchanged, else now."""
    if torch.compiler.is_compiling():  # which shows nobody how often a tensor has been changed
        return _alone(now)
    if computed_again():
        vectors = recall(now.owner, now.name)
        if vectors is not None:
            now = now._replace(u=vectors[0], v=vectors[1], iterations=0, writes=False)
        else:
            # As after the last use: the first time was that one, unless there were others between.
            now = now._replace(iterations=now.iterations if now.v is None else 0, writes=False)
        return divided(now.weight, *_estimated([now]))
    forward_pass = next((p for p in reversed(_running.passes) if now.key in p.names), None)
    found = None if forward_pass is None else forward_pass.take(now)
    if found is None:
        (found,) = _estimated([now])
    _write(now, found)
    remember(now.owner, now.name, (found.u, found.v))
    return divided(now.weight, found)


def _alone(now: Operands) -> tuple[Tensor, Tensor]:
    (found,) = _estimated([now])
    _write(now, found)
    return divided(now.weight, found)


def _write(now: Operands, found: Estimate) -> None:
    """Writes the iterated u and v to their buffers, without a graph."""
    if not now.writes:
        return
    if now.v is None:
        now.u.copy_(found.u)
    else:
        foreach_copy_([now.u, now.v], [found.u, found.v])


def _estimated(operands: Sequence[Operands]) -> list[Estimate]:
    """The estimates of several weights, by one call for all that can share one."""
    together: dict[tuple, list[int]] = {}
    for i, each in enumerate(operands):
        key = (each.weight.dtype, each.weight.device, each.iterations, each.eps, each.v_first)
        together.setdefault(key, []).append(i)
    if len(together) == 1:
        return _by_one_call(operands)
    found: dict[int, Estimate] = {}
    for places in together.values():
        found |= zip(places, _by_one_call([operands[i] for i in places]), strict=True)
    return [found[i] for i in range(len(operands))]


def _by_one_call(operands: Sequence[Operands]) -> list[Estimate]:
    """The estimates of weights of one dtype, device and setting, by one call."""
    first, vectors = operands[0], [each.vectors() for each in operands]
    return estimates(
        [each.weight for each in operands], [pair[0] for pair in vectors], [pair[1] for pair in vectors],
        n_power_iterations=first.iterations, eps=first.eps, dims=[each.dim for each in operands],
        v_first=first.v_first,
    )  # fmt: skip
