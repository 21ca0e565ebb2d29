"""The choice of the implementation that runs an op: `reference`, `cpu`, `triton` or `cuda`.

`auto` (the default) takes the first backend of the op's preference list that supports the arguments. An explicit
choice, by `with fastgan.backend("triton"):` or by FASTGAN_BACKEND in the environment, never falls back: it raises
`BackendError` with the reason.
"""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from fastgan import native
from fastgan.registry import OPS, OpSpec

BACKENDS = ("reference", "cpu", "triton", "cuda")


class BackendError(RuntimeError):
    """The backend that was asked for cannot run this op on these arguments; the message says why."""


def _check_name(name: str, source: str) -> str:
    if name not in ("auto", *BACKENDS):
        raise ValueError(f"{source} is {name!r}, expected one of auto, {', '.join(BACKENDS)}")
    return name


_wanted = _check_name(os.environ.get("FASTGAN_BACKEND", "auto"), "FASTGAN_BACKEND")


def wanted() -> str:
    """The backend that is forced now, or "auto"."""
    return _wanted


# Whether a backend can be loaded at all, found without importing triton or starting CUDA.
_triton_missing = None if importlib.util.find_spec("triton") else "triton is not installed: pip install triton"
_interpreting = os.environ.get("TRITON_INTERPRET") == "1"


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Forces every op called inside to run on one backend; `"auto"` restores the automatic choice.

    The choice is process-wide, not per thread. A backward pass uses the backend of its forward.
    """
    global _wanted
    previous, _wanted = _wanted, _check_name(name, "backend")
    try:
        yield
    finally:
        _wanted = previous


def missing(name: str) -> str | None:
    """Why a backend cannot run on this installation, whatever the op; None when it can be loaded."""
    if name == "cpu":
        return native.reason_missing
    if name == "cuda":
        if native.reason_missing is not None:
            return native.reason_missing
        return None if native.extension().has_cuda else "built without CUDA: nvcc was not found, or FASTGAN_CUDA=0"
    if name == "triton":
        return _triton_missing
    return None


def unsupported(spec: OpSpec, name: str, device_type: str, dtype: torch.dtype) -> str | None:
    """Why `spec` cannot run on the backend for a tensor of this device type and dtype; None when it can."""
    if name == "reference":
        return None
    if name not in spec.backends:
        return f"{spec.name} has no {name} implementation (it has reference, {', '.join(spec.backends)})"
    reason = missing(name)
    if reason is not None:
        return reason
    if name == "triton" and device_type == "cpu" and not _interpreting:
        return "the tensor is on the CPU, where Triton runs only in its interpreter (set TRITON_INTERPRET=1)"
    needed = "cpu" if name == "cpu" or (name == "triton" and _interpreting) else "cuda"
    if device_type != needed:
        return f"the {name} backend takes {needed} tensors, not {device_type}"
    if dtype not in spec.backends[name]:
        known = ", ".join(str(d).removeprefix("torch.") for d in spec.backends[name])
        return f"the {name} backend of {spec.name} takes {known}, not {str(dtype).removeprefix('torch.')}"
    return None


def select(op: str, x: Tensor) -> str:
    """The backend that runs a registered op, given by its name, on x.

    Raises:
        BackendError: a backend was forced and it cannot run the op on this tensor.
    """
    spec, device_type, dtype = OPS[op], x.device.type, x.dtype
    if _wanted != "auto":
        reason = unsupported(spec, _wanted, device_type, dtype)
        if reason is not None:
            raise BackendError(f"fastgan.ops.{spec.name} cannot run on backend {_wanted!r}: {reason}")
        return _wanted
    for name in spec.backends:
        if (name != "triton" or device_type == "cuda") and unsupported(spec, name, device_type, dtype) is None:
            return name
    return "reference"
