"""Loads the compiled extension `fastgan._C`, or remembers why it is not there."""

import ctypes
import importlib
from types import ModuleType

import torch  # makes torch's OpenMP runtime visible to the extension, which links none

from fastgan import allocation


def _load() -> tuple[ModuleType | None, str | None]:
    """Returns the extension and None, or None and the reason in one sentence."""
    try:
        return importlib.import_module("fastgan._C"), None
    except ModuleNotFoundError:
        return None, "fastgan._C is not built: run `pip install .` in the source folder"
    except ImportError as error:
        message = str(error)
    if "GOMP" not in message and "kmpc" not in message:
        return None, f"fastgan._C does not load: {message}"
    try:  # this torch keeps its OpenMP runtime private: use the system's
        ctypes.CDLL("libgomp.so.1", mode=ctypes.RTLD_GLOBAL)
        return importlib.import_module("fastgan._C"), None
    except (OSError, ImportError):
        return (
            None,
            "fastgan._C needs an OpenMP runtime: install libgomp1 (Debian/Ubuntu: apt-get install libgomp1)",
        )


_extension, reason_missing = _load()
"""The extension module (None when it cannot be loaded), and the reason (None when it can)."""

fused_multiply_add: bool = _extension is not None and _extension.instruction_set != "baseline"
"""Whether the chosen kernels multiply and add in one instruction, with one rounding."""


def extension() -> ModuleType:
    """The module `fastgan._C`; the callers have checked that the backend that needs it is there."""
    if _extension is None:
        raise RuntimeError(reason_missing)
    allocation.keep_freed_memory()
    return _extension


CPU = torch.device("cpu")


def address(x: torch.Tensor | None, dtype: torch.dtype, count: int, device: torch.device = CPU) -> int:
    """The address of the first element of x; 0 for None, which the kernels take for "not given".

    The one way by which a tensor becomes a number: behind a number there is no telling what lies there. A kernel reads
    or writes `count` neighbours of type `dtype` on `device`, which its caller declares here, beside the call.

    Raises:
        RuntimeError: x is not what the kernel takes it for: fastgan's own fault, not that of the caller's arguments.
    """
    if x is None:
        return 0
    if x.dtype is dtype and x.numel() == count and x.device == device and (x.is_contiguous() or fills_its_memory(x)):
        return x.data_ptr()
    found = f"{x.dtype} {list(x.shape)} with strides {list(x.stride())} on {x.device}"
    raise RuntimeError(
        f"fastgan's kernel would misread a tensor: {found}, expected {count} neighbours of {dtype} on {device}. "
        "Please report this."
    )


def fills_its_memory(x: torch.Tensor) -> bool:
    """Whether the elements of x fill a block of memory without gaps, in any order."""
    return x.is_contiguous() or torch.ops.aten.is_non_overlapping_and_dense.default(x)


DTYPE_CODES = {torch.float32: 0, torch.float64: 1, torch.float16: 2, torch.bfloat16: 3}
"""torch dtype -> `fastgan::DType` of csrc/common.h."""
