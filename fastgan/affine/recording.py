"""`record` runs a network forward (the pass F) and returns its output and tape."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan import allocation
from fastgan.affine.errors import NotAffineError
from fastgan.affine.function_mode import BehindAutograd
from fastgan.affine.recorder import Recorder
from fastgan.affine.saved_tensors import KeptGraph, SavedTensors, why_no_recording
from fastgan.affine.tape import Tape


def record(
    network: Callable[..., Sequence[Tensor]],
    x: Tensor,
    *rest: Any,
    buffers: Iterable[Tensor] = (),
    blame: Callable[[NotAffineError], None] | None = None,
    where: Callable[[], str] = str,
    plain: bool = False,
    keep_graph: bool = False,
) -> tuple[list[Tensor], Tape]:
    """Calls network(x, *rest) and records the operations on x (the pass F).

    Args:
        network: any callable that returns tensors, of any number of numbers per sample.
        x: [samples, ...]; treated as the variable, whatever its own history.
        rest: further arguments, e.g. labels; constants, though gradients flow to the weights that embed them.
        buffers: tensors that the network's next call may change; looked at only where there are constants.
        blame: called for every operation that is not affine; without it the first one raises.
        where: the name of the module that is running, for messages.
        plain: keep masks in torch's own operations, for a compiler to fuse, not in fastgan's kernels.
        keep_graph: let autograd save the activations, so that it can differentiate the outputs, too.

    Returns:
        The outputs and the tape; with `blame`, the tape is of no use unless it was never called. The outputs are
        detached unless their graph is kept, or they do not depend on the input as far as autograd knows.

    Raises:
        NotAffineError: the network is not piecewise affine in x sample by sample; says which operation is not.
    """
    if x.device.type == "cpu":
        allocation.keep_freed_memory()
    if not len(x):
        raise NotAffineError("the batch has no samples")
    reason = why_no_recording()
    if reason is not None:
        raise NotAffineError(reason)
    recorder = Recorder(len(x), where, blame, plain, KeptGraph() if keep_graph else SavedTensors())
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        recorder.start(x, buffers)
        with recorder.saved, recorder:
            with BehindAutograd(recorder):
                ys = list(network(x, *rest))
            outputs = [recorder.find(y) for y in ys]
            if recorder.tape.changed_constants():
                recorder.refuse(NotAffineError("a constant was modified in place after the critic had read it"))
    for y, output in zip(ys, outputs, strict=True):
        if output is None and recorder.leads_to_input(y):
            recorder.refuse(
                NotAffineError(
                    "the output depends on the input in a way that recording does not see (TorchScript, a custom "
                    "autograd.Function)"
                )
            )
    if not any(outputs):
        recorder.refuse(NotAffineError("the output does not depend on the input"))
    recorder.tape.leaf = x
    recorder.tape.finish(outputs)
    if not keep_graph:  # of what does not depend on the input, autograd has saved all
        ys = [y if output is None else y.detach() for y, output in zip(ys, outputs, strict=True)]
    return ys, recorder.tape
