"""The kernels of an operation, by backend."""

import functools
from importlib import import_module
from typing import Any


@functools.cache
def kernels_for(op: str, backend: str) -> Any:
    """The module with a backend's kernels of an operation, imported at its first use (that of Triton's imports triton).

    They fill tensors that their caller has allocated. The modules of an operation's backends have functions of the same
    names and arguments: fastgan/ops/<op>/cpu.py, which calls C++, and kernels/<op>.py for "triton".
    """
    return import_module(f"fastgan.kernels.{op}" if backend == "triton" else f"fastgan.ops.{op}.{backend}")
