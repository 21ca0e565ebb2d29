"""Finds out before a step whether PyTorch can differentiate a critic twice."""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from fastgan._torch_private import is_compiled_module
from fastgan.penalties import double_backward
from fastgan.penalties.eligibility import Verdict, remembered
from fastgan.penalties.modules import each_module_of, is_sharded
from fastgan.penalties.objective import leaves_of
from fastgan.penalties.outputs import Outputs
from fastgan.penalties.state import Snapshot, Watch
from fastgan.penalties.tensor_hooks import without_hooks


def why_not_twice(
    network: Callable[..., Any], calls: Sequence[tuple], outputs: Outputs, verdicts: Sequence[Verdict]
) -> str | None:
    """Why the gradient of a network at these arguments cannot be differentiated; None if nothing speaks against it.

    The finding is remembered. `verdicts` are those on one pass.
    """
    pairs = zip(calls, verdicts, strict=True)
    found = (
        remembered("twice", network, outputs, call, partial(try_twice, network, call, outputs, verdict))
        for call, verdict in pairs
    )
    return next((why for why in found if why is not None), None)


def try_twice(network: Callable[..., Any], call: tuple, outputs: Outputs, verdict: Verdict) -> str | None:
    """The same for one call: the network runs once, and is left as it was, unless one pass is open to it."""
    if is_sharded(network):
        return "fully_shard frees the weights after the first backward pass"
    if verdict.eligible:
        return None
    compiled = any(is_compiled_module(module) for module in each_module_of(network))
    x, *rest = call
    snapshot = Snapshot(network, x.device)
    snapshot.add_small_tensors()
    try:
        with contextlib.nullcontext() if compiled else Watch(snapshot):  # under which nothing compiled would run
            found = double_backward.gradient(network, x, rest, outputs)
            leaves = leaves_of(found.g)
            with without_hooks(leaves):
                torch.autograd.grad(found.g.sum(), leaves, allow_unused=True, retain_graph=True)
    except RuntimeError as error:  # of the critic itself too: the step then raises it
        return refusal_in(error)
    except (TypeError, ValueError):
        return None
    finally:
        snapshot.put_back()
    return None


_REFUSALS = ("double backward", "is not implemented", "differentiate twice", "once_differentiable")


def refusal_in(error: RuntimeError) -> str | None:
    """What an error says of the operation that has no second derivative; None for one of the critic itself."""
    text = str(error).splitlines()[0] if str(error) else ""
    if "torch.utils.checkpoint is incompatible with .grad()" in text:
        return "a region is checkpointed with use_reentrant=True, expected use_reentrant=False"
    if not any(words in text for words in _REFUSALS):
        return None
    return f"{text}; {_COMPOSED}" if "scaled_dot_product" in text else text


_COMPOSED = (
    "PyTorch's fused attention has no second derivative, its composed form has: run inside "
    "torch.nn.attention.sdpa_kernel(SDPBackend.MATH)"
)
