"""Whether a critic's exact penalty gradient takes one pass, and if not, which operation of which module is why."""

import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fastgan.affine import NotAffineError, record
from fastgan.penalties.packs import of_packs


@dataclass(frozen=True)
class Verdict:
    """What was found when the critic ran once.

    Attributes:
        reasons: what stands in the way, one line for each operation; empty if nothing does.
        operations: how often each kind of recorded operation occurs.
        weights: how many tensors the gradient goes to.
    """

    reasons: tuple[str, ...]
    operations: dict[str, int]
    weights: int

    @property
    def eligible(self) -> bool:
        return not self.reasons

    @property
    def reason(self) -> str | None:
        """The first of the reasons."""
        return self.reasons[0] if self.reasons else None

    def __str__(self) -> str:
        if self.eligible:
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.operations.items()))
            return (
                f"one pass: piecewise affine in x, sample by sample\n  {kinds}\n  gradients to {self.weights} weights"
            )
        return "double backward, because\n" + "\n".join(f"  {reason}" for reason in self.reasons)


def explain(critic: Callable[..., Tensor], example: Tensor, labels: Any = None) -> Verdict:
    """Prints which method `critic_loss` takes for a critic on such a batch, and why.

    The critic runs once; its buffers and the random state are restored.

    Args:
        critic: as for `critic_loss`.
        example: a batch of its input; the values matter only to a critic whose code branches on them.
        labels: as for `critic_loss`.

    Returns:
        The verdict, whose `str` was printed.
    """
    rest = () if labels is None else labels if isinstance(labels, tuple) else (labels,)
    _, network, (batch,) = of_packs("explain", critic, rest, example)
    found = examine(network, batch, *rest)
    print(found)
    return found


def examine(network: Callable[..., Tensor], x: Tensor, *rest: Any) -> Verdict:
    """Records the network, leaving it as it was, and lists everything that is not affine."""
    if isinstance(network, nn.DataParallel):  # with devices: `unwrap` opens others
        return Verdict(("DataParallel runs its replicas in threads of their own",), {}, 0)
    reasons: dict[str, None] = {}

    def where() -> str:
        return _running(network)

    def blame(error: NotAffineError) -> None:
        reasons.setdefault(str(error) if "(in " in str(error) else f"{error}{where()}")

    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), _buffers_restored(network):
        _, tape = record(network, x, *rest, blame=blame, where=where)
    if reasons:
        return Verdict(tuple(reasons), {}, 0)
    return Verdict((), dict(Counter(type(node).__name__ for node in tape.nodes)), len(tape.slots))


@contextmanager
def _buffers_restored(network: Any) -> Iterator[None]:
    """Puts running statistics and power iterations back where they were."""
    modules = list(network.modules()) if isinstance(network, nn.Module) else []
    held = [(module, dict(module._buffers)) for module in modules if not isinstance(module, torch.jit.ScriptModule)]
    buffers = network.buffers() if modules else ()
    copies = [(b, b.detach().clone()) for b in buffers if not nn.parameter.is_lazy(b)]
    try:
        yield
    finally:
        for module, owned in held:
            if not any(b is not None and nn.parameter.is_lazy(b) for b in owned.values()):
                module._buffers.update(owned)
        with torch.no_grad():
            for buffer, copy in copies:
                if not torch.equal(buffer, copy):  # batch norm does not count its changes
                    buffer.copy_(copy)


def _running(network: Any) -> str:
    """Names the network's module whose forward is running, as the stack has it: hooks of all modules would be called
    in other threads too."""
    if not isinstance(network, nn.Module):
        return ""
    frame = sys._getframe()
    while frame.f_code is not nn.Module._call_impl.__code__:
        if frame.f_back is None or frame.f_code is examine.__code__:
            return ""
        frame = frame.f_back
    module = frame.f_locals["self"]
    names = {module: f"{name or 'the critic'}: " for name, module in network.named_modules()}
    return f" (in {names.get(module, '')}{type(module).__name__})"


# --- remembered verdicts ----------------------------------------------------------------------------------------------

_KNOWN: "weakref.WeakKeyDictionary[Any, dict[Any, Verdict]]" = weakref.WeakKeyDictionary()


def verdict(network: Callable[..., Tensor], x: Tensor, *rest: Any) -> Verdict:
    """The verdict on a network for inputs of this kind, remembered by its modules and their modes, shapes, dtypes.

    It only chooses the method: a network that has changed in another way since is still differentiated exactly, because
    recording looks at every operation of every call.
    """
    try:
        known = _KNOWN.setdefault(network, {})
    except TypeError:  # not weakly referable: an instance with __slots__
        return examine(network, x, *rest)
    key = _key(network, x, *rest)
    if key not in known:
        known[key] = examine(network, x, *rest)
    return known[key]


def forget(network: Callable[..., Tensor], reason: str) -> str:
    """Drops what is remembered of a network that turned out otherwise; returns the reason."""
    _KNOWN.pop(network, None)
    return reason


def _key(network: Callable[..., Tensor], *args: Any) -> Any:
    modules = network.modules() if isinstance(network, nn.Module) else ()
    modes = tuple((type(module), module.training) for module in modules)
    autocast = torch.is_autocast_enabled(args[0].device.type)
    return modes, autocast, *((tuple(a.shape), a.dtype, a.device) if isinstance(a, Tensor) else type(a) for a in args)
