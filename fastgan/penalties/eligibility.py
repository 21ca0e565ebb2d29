"""Runs a critic once to find out whether one pass gives its exact penalty gradient, and why not."""

import sys
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fastgan._torch_private import module_call_code
from fastgan.affine import NotAffineError, record
from fastgan.affine.saved_tensors import why_no_recording
from fastgan.backends import wanted
from fastgan.penalties.modules import anchor, buffers_of, code_of, each_module_of, is_sharded, modules_of
from fastgan.penalties.outputs import Outputs
from fastgan.penalties.state import Snapshot, Watch


@dataclass(frozen=True)
class Verdict:
    """The result of a trial run of a critic.

    Attributes:
        reasons: what stands in the way, one line for each operation; empty if nothing does.
        operations: how often each kind of recorded operation occurs.
        weights: how many tensors the gradient goes to.
        overwrites: the memory of tensors that a run overwrites.
        numbers: how many numbers per sample the critic gives that are judged or shown to the loss.
    """

    reasons: tuple[str, ...]
    operations: dict[str, int]
    weights: int
    overwrites: tuple[torch.UntypedStorage, ...] = ()
    numbers: int = 1

    @property
    def eligible(self) -> bool:
        return not self.reasons

    @property
    def reason(self) -> str | None:
        """The first of the reasons."""
        return self.reasons[0] if self.reasons else None


def examine(network: Callable[..., Any], outputs: Outputs, x: Tensor, *rest: Any) -> Verdict:
    """Records the network, leaving it as it was, and lists everything that is not affine."""
    if isinstance(network, nn.DataParallel) and network.device_ids:
        return Verdict(("DataParallel runs its replicas in threads of their own",), {}, 0)
    reasons: dict[str, None] = {}
    modules = modules_of(network)
    if is_sharded(network):
        return Verdict(("fully_shard gathers the weights for each of autograd's passes",), {}, 0)
    names = {module: f"{name}: {type(module).__name__}" for module, name in modules.items()}

    def parts(x: Tensor, *rest: Any) -> list[Tensor]:
        return outputs.parts(network(x, *rest), len(x))[0]

    def where() -> str:
        return running_module(names, examine)

    def blame(error: NotAffineError) -> None:
        reasons.setdefault(str(error) if "(in " in str(error) else f"{error}{where()}")

    snapshot = Snapshot(network, x.device)
    try:
        with Watch(snapshot):
            found, tape = record(parts, x, *rest, buffers=buffers_of(network), blame=blame, where=where)
        overwrites = snapshot.overwritten()
    except NotAffineError as error:
        blame(error)
    except Exception as error:
        snapshot.put_back()
        with torch.enable_grad(), Watch(snapshot):
            outputs.read(network(x.detach(), *rest))  # what is wrong with the critic itself is its user's to see
        blame(NotAffineError(f"the critic cannot be recorded ({type(error).__name__}: {error})"))
    finally:
        snapshot.put_back()
    if reasons:
        return Verdict(tuple(reasons), {}, 0)
    operations = dict(Counter(type(node).__name__ for node in tape.nodes))
    return Verdict((), operations, len(tape.slots), overwrites, sum(y.numel() for y in found) // len(x))


def running_module(names: dict[nn.Module, str], trial: Any) -> str:
    """The name of the running module, read from the stack: hooks on all modules would see other threads.

    `trial` is the function that calls the network, below which nobody looks.
    """
    frame = sys._getframe()
    while frame.f_code is not module_call_code:
        if frame.f_back is None or frame.f_code is trial.__code__:
            return ""
        frame = frame.f_back
    module = frame.f_locals["self"]
    return f" (in {names.get(module, type(module).__name__)})"


# --- remembered verdicts ----------------------------------------------------------------------------------------------

_FAILED = "failed"
_KNOWN: "weakref.WeakKeyDictionary[Any, dict[Any, Any]]" = weakref.WeakKeyDictionary()


def verdicts_of(network: Callable[..., Any], calls: Sequence[tuple], outputs: Outputs) -> list[Verdict]:
    """The verdicts on a network for such calls, cached by its modules and their modes, and by shapes and dtypes.

    They only choose the method: a network that has changed in another way since is still differentiated exactly,
    because recording looks at every operation of every call.
    """
    if not calls:
        return []
    reason = why_no_recording()
    if reason is not None:  # here; elsewhere the same network may be recorded
        return [Verdict((reason,), {}, 0)] * len(calls)
    known, structure = _known(network), _structure(network, outputs)
    found = []
    for call in calls:
        key = structure, _kinds(call)
        if key not in known:
            known[key] = examine(network, outputs, *call)
            remember_graph(network, known[key].numbers > 1)
        found.append(known[key])
    return found


def remembered(what: str, network: Callable[..., Any], outputs: Outputs, call: tuple, find: Callable[[], Any]) -> Any:
    """Another finding on a network for such a call, cached by the same things."""
    known, key = _known(network), (what, _structure(network, outputs), _kinds(call))
    if key not in known:
        known[key] = find()
    return known[key]


def reconsider(network: Callable[..., Any], calls: Sequence[tuple], outputs: Outputs, reason: str) -> None:
    """Drops the cached verdict on a network that turned out not to be affine: the next call examines it again.

    What only a whole step shows, such as a loss of the critic's activations, is remembered once it has come twice.
    """
    known = _known(network)
    again = known.get(_FAILED) == Verdict((reason,), {}, 0)
    known.clear()
    known[_FAILED] = Verdict((reason,), {}, 0)
    if again:
        structure = _structure(network, outputs)
        known.update(((structure, _kinds(call)), known[_FAILED]) for call in calls)


_KEEPING: "weakref.WeakSet[Any]" = weakref.WeakSet()


def remember_graph(network: Callable[..., Any], needed: bool) -> None:
    """Remembers whether the loss's gradient had, or will have, to go through autograd beside the penalty's."""
    try:
        if needed:
            _KEEPING.add(anchor(network))
        elif _KEEPING:
            _KEEPING.discard(anchor(network))
    except TypeError:  # not weakly referable
        return


def graph_was_needed(network: Callable[..., Any]) -> bool:
    """What was remembered; if it is wrong the gradient is right, with one more pass or more memory."""
    return bool(_KEEPING) and anchor(network) in _KEEPING


def _known(network: Callable[..., Tensor]) -> dict[Any, Any]:
    try:
        return _KNOWN.setdefault(anchor(network), {})
    except TypeError:  # not weakly referable: an instance with __slots__
        return {}


def _structure(network: Callable[..., Any], outputs: Outputs) -> Any:
    modules = tuple((type(module), module.training) for module in each_module_of(network))
    return code_of(network), modules, outputs.kind


def _kinds(call: tuple) -> Any:
    autocast = torch.is_autocast_enabled(call[0].device.type)
    # What `sdpa_kernel` and `fastgan.backend` choose has a second derivative, or has none.
    fused = torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.mem_efficient_sdp_enabled()
    of_arguments = ((tuple(a.shape), a.dtype, a.device) if isinstance(a, Tensor) else type(a) for a in call)
    return autocast, fused, wanted(), *of_arguments
