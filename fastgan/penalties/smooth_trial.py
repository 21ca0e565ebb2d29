"""A trial run that finds out whether differences may stand for a critic's second derivatives."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fastgan._torch_private import is_compiled_module
from fastgan.losses.structure import tensors_of
from fastgan.penalties.eligibility import remember, remembered, running_module
from fastgan.penalties.modules import each_module_of, modules_of
from fastgan.penalties.outputs import Outputs
from fastgan.penalties.smooth import Smoothness
from fastgan.penalties.state import Snapshot, Watch


@dataclass(frozen=True)
class SmoothVerdict:
    """The result of a trial run.

    Attributes:
        reason: why the critic is not smooth in its samples as far as is known; None if it is.
        coupled: whether one sample's output depends on other samples.
        random: the operation that draws random numbers; None if none does.
        lowest: the least precise dtype of what is computed from the samples.
        overwrites: the memory of tensors that a run overwrites.
        path: the operations that autograd has recorded, by which a critic is known to run as it did; None until a step
            has run, if the trial could not see them as a step does.
    """

    reason: str | None
    coupled: bool
    random: str | None
    lowest: torch.dtype
    overwrites: tuple[torch.UntypedStorage, ...]
    path: tuple[str, ...] | None
    measured: bool = False
    """Whether it is known how far the critic is from linear over a displacement."""


def smooth_verdict_of(network: Callable[..., Any], outputs: Outputs, call: tuple) -> SmoothVerdict:
    """The verdict on a network for such a call, remembered as `verdicts_of` remembers its own."""
    return remembered("smooth", network, outputs, call, lambda: try_smooth(network, outputs, *call))


def verdict_on_path(
    network: Callable[..., Any], outputs: Outputs, call: tuple, known: SmoothVerdict, path: tuple[str, ...]
) -> SmoothVerdict:
    """The verdict on a network that has just recorded the operations `path`: `known`, or one of another trial run."""
    if known.path == path:
        return known
    if known.path is not None:  # a flag has changed, or a branch is taken
        known = try_smooth(network, outputs, *call)
    found = replace(known, path=path)
    remember("smooth", network, outputs, call, found)
    return found


def measured(network: Callable[..., Any], outputs: Outputs, call: tuple, known: SmoothVerdict) -> SmoothVerdict:
    """`known`, which now is `measured` too."""
    found = replace(known, measured=True)
    remember("smooth", network, outputs, call, found)
    return found


def try_smooth(network: Callable[..., Any], outputs: Outputs, x: Tensor, *rest: Any) -> SmoothVerdict:
    """Runs the network once under `Smoothness`, and leaves it as it was."""
    names = {module: f"{name}: {type(module).__name__}" for module, name in modules_of(network).items()}
    compiled = any(is_compiled_module(module) for module in each_module_of(network))
    snapshot = Snapshot(network, x.device)
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        follow = Smoothness(x, lambda: running_module(names, try_smooth))
        try:
            with _uncompiled() if compiled else contextlib.nullcontext(), Watch(snapshot), follow:
                parts, form = outputs.parts(network(x, *rest), len(x))
            judged = tensors_of(form.judged(parts))
            reason = _why_not(follow, parts, judged) or _why_not_by_sample(x, judged)
            coupled = reason is None and _mixes_samples(x, judged)
            path = None if compiled else path_of(parts)
            overwrites = snapshot.overwritten()
        except Exception as error:
            snapshot.put_back()
            with Watch(snapshot):
                network(x.detach(), *rest)  # what is wrong with the critic itself is its user's to see
            reason = f"the critic cannot be followed ({type(error).__name__}: {error})"
            return SmoothVerdict(reason, False, None, x.dtype, (), None)
        finally:
            snapshot.put_back()
    return SmoothVerdict(reason, coupled, follow.random, follow.lowest, overwrites, path)


def path_of(parts: Sequence[Tensor]) -> tuple[str, ...]:
    """The names of the nodes of autograd's graph below some tensors, in an order that only the graph determines."""
    names: list[str] = []
    seen: set[Any] = set()
    waiting = [y.grad_fn for y in parts]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        names.append(node.name())
        waiting.extend(parent for parent, _ in node.next_functions)
    return tuple(names)


def _why_not(follow: Smoothness, parts: Sequence[Tensor], judged: Sequence[Tensor]) -> str | None:
    """Why a part is not smooth in the samples; what the loss alone is given may be no function of them."""
    whys = (follow.why_not(y) for y in parts if follow.follows(y) or any(y is of for of in judged))
    return next((why for why in whys if why is not None), None)


def _mixes_samples(x: Tensor, judged: Sequence[Tensor]) -> bool:
    """Whether the first sample's outputs depend on another sample: their gradient there is exactly 0 where not."""
    if len(x) == 1:
        return False
    number = torch.stack([y[0].sum() for y in judged]).sum()
    (g,) = torch.autograd.grad(number, x)
    return bool((g[1:] != 0).any())


def _why_not_by_sample(x: Tensor, judged: Sequence[Tensor]) -> str | None:
    if not len(x):
        return "the batch has no samples"
    shapes = (list(y.shape) for y in judged if len(y) != len(x))
    return next((f"an output has shape {shape}, expected [{len(x)}, ...]" for shape in shapes), None)


@contextlib.contextmanager
def _uncompiled() -> Iterator[None]:
    """Inside, modules that torch.compile has wrapped run as they were written."""
    with torch.compiler.set_stance("force_eager"):
        yield
