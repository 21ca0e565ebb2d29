"""Replaces the self-attention blocks of other code bases, SAGAN's and BigGAN's, by fastgan.ops.attention.

A block makes queries, keys and values of its image by 1x1 convolutions, and adds gamma times what it attends to. Only
what is between the convolutions is another's: they are called as ever, with their hooks and spectral norms.
"""

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any

from torch import nn

from fastgan._torch_private import call_is_forward, has_hooks_on_every_module
from fastgan.acceleration.attention_plan import Plan, attend, convolution_in, description_of, looks_like_attention
from fastgan.acceleration.attention_search import find_plan
from fastgan.acceleration.calls import takes
from fastgan.acceleration.foreign import subclass, why_no_subclass
from fastgan.acceleration.report import AccelerationReport, LayerReport
from fastgan.acceleration.substitute import base_class, substitute
from fastgan.ops._common.autocast import autocasts
from fastgan.ops.attention.functional import kernels_are_for

FEWEST_PAIRS = 256 * 256
"""Queries times keys from which on the kernels are faster, forward and backward: fewer, and the original runs."""

_OURS = "_fastgan_self_attention"  # marks the classes that are made here


@functools.cache
def _replacement(kind: Any, plan: Plan, description: tuple) -> type[nn.Module]:
    """The subclass of a block's class for blocks of this description; where they have another, the original runs."""

    def run(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        ours = len(args) == 1 and not kwargs and _is_for(args[0], plan) and not _is_watched(self)
        if ours and description_of(self) == description:
            return attend(self, plan, args[0])
        return kind.forward(self, *args, **kwargs)

    return subclass(kind, _OURS, {"forward": _in_place_of(kind.forward, run)}, _rebuild, (kind, plan, description))


def _in_place_of(original: FunctionType, run: Callable[..., Any]) -> FunctionType:
    """A function that calls `run` and looks like the original: its source, which TorchScript compiles, its globals,
    by which it does so, and its signature, of which torch.fx makes a graph's inputs."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        return run(*args, **kwargs)

    found = FunctionType(forward.__code__, original.__globals__, "forward", None, forward.__closure__)
    functools.update_wrapper(found, original)
    return found


def _rebuild(kind: Any, plan: Plan, description: tuple) -> nn.Module:
    replacement = _replacement(kind, plan, description)
    return replacement.__new__(replacement)


def _is_for(x: Any, plan: Plan) -> bool:
    """Whether an image is such as the plan was verified for, and large enough to be worth it."""
    if not takes(x) or x.ndim != 4 or autocasts(x.device.type):
        return False
    height, width = x.shape[2:]
    # Of an odd size the pooled blocks make errors, or other shapes.
    if min(height, width) < 2 or (plan.pooled and (height % 2 or width % 2)):
        return False
    keys = height * width // (4 if plan.pooled else 1)
    return x.numel() > 0 and height * width * keys >= FEWEST_PAIRS and kernels_are_for(x)


def _is_watched(block: nn.Module) -> bool:
    """Whether something sees, or replaces, what a layer between the convolutions is given: its softmax, say."""
    between = (child for child in block._modules.values() if child is not None and convolution_in(child) is None)
    return has_hooks_on_every_module() or not all(call_is_forward(child) for child in between)


def _why_no_function(kind: Any) -> str:
    return "" if isinstance(kind.forward, FunctionType) else "its forward is no function of Python"


def swap_self_attention(model: nn.Module, report: AccelerationReport) -> None:
    for path, block in model.named_modules():
        kind = base_class(block)
        if report.knows(block) or kind.__module__.startswith(("torch.", "fastgan.")):
            continue
        if _OURS in kind.__dict__:
            report.add(path, block, kind.__name__, "attention", "already")
        elif looks_like_attention(block):
            reason = why_no_subclass(block) or _why_no_function(kind)
            plan, reason = (None, reason) if reason else find_plan(block)
            if (
                plan is None
            ):  # its code may call functions that fastgan replaces, all the same: of these swap_functional says
                report.rows.append(LayerReport(path, kind.__name__, None, reason))
            else:
                substitute(block, _replacement(kind, plan, description_of(block)))
                report.add(path, block, kind.__name__, "attention", f"from {FEWEST_PAIRS} pairs of query and key on")
