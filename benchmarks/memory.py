"""Peak extra memory of a call in bytes, over what was allocated before, results included.

On a GPU the caching allocator counts. On the CPU a fresh process makes the call twice and reports by how much the
second one raised the peak of its resident memory, which also sees what an extension allocates for itself.
"""

import ctypes
import multiprocessing
import resource
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

RESOLUTION = {"cpu": 256 << 10, "cuda": 512}
"""Bytes below which a figure says only "less than this".

On a GPU, the allocator's granularity. On a CPU, Linux counts a process's pages on each core and adds them to the total
in batches of 32 (128 kB), so that the total may lack a batch of each of two cores.
"""

_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of <malloc.h>
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class NotEnoughMemoryError(RuntimeError):
    """The call needs more memory than there is."""


def is_out_of_memory(error: BaseException) -> bool:
    """torch raises a class of its own on a GPU, and a RuntimeError by message on the CPU."""
    text = str(error)
    return (
        isinstance(error, (MemoryError, NotEnoughMemoryError, torch.OutOfMemoryError))
        or "allocate memory" in text
        or "out of memory" in text
    )


def peak_cuda(call: Callable[[], object]) -> int:
    """Peak of the caching allocator over what was allocated before."""
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def peak_cpu(call: Callable[[], object], repeats: int = 3) -> int:
    """Median rise of this process's peak resident memory; meant for a process of its own (`in_fresh_process`).

    Large blocks are mapped and unmapped one by one (mallopt), so that memory kept from an earlier call hides nothing.
    Needs Linux's /proc; elsewhere only the lifetime peak is known, and the first call is measured.
    """
    if not _CLEAR.exists():
        unit = 1 if sys.platform == "darwin" else 1024
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        call()
        return unit * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc
        libc.mallopt(_MMAP_THRESHOLD, 64 << 10)
    call()  # warm-up: thread pools, compilation, lazy initialisation
    rises = []
    for _ in range(repeats):
        if hasattr(libc, "malloc_trim"):
            libc.malloc_trim(0)
        _CLEAR.write_text("5")  # resets VmHWM to VmRSS, see proc(5)
        before = _kilobytes("VmRSS")
        call()
        rises.append(1024 * (_kilobytes("VmHWM") - before))
    return sorted(rises)[repeats // 2]


def _kilobytes(field: str, path: Path = _STATUS) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise KeyError(field)


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """function(*arguments) in a new process, forked from a server that has imported torch and computed nothing.

    Raises:
        NotEnoughMemoryError: the process met the limit of the machine's available memory.
        RuntimeError: anything else that went wrong there, as text.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.cases"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, function, arguments), daemon=True)
    process.start()
    sender.close()
    try:
        kind, value = receiver.recv()
    except EOFError:
        process.join()
        if process.exitcode == -signal.SIGKILL:
            raise NotEnoughMemoryError("the process was killed") from None
        raise RuntimeError(f"the process ended with status {process.exitcode}") from None
    process.join()
    if kind == "result":
        return value
    raise NotEnoughMemoryError(value) if kind == "out of memory" else RuntimeError(value)


def _child(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        _limit_to_available_memory()
        sender.send(("result", function(*arguments)))
    except Exception as error:
        kind = "out of memory" if is_out_of_memory(error) else "error"
        sender.send((kind, f"{type(error).__name__}: {error}"))


def _limit_to_available_memory() -> None:
    """Makes an allocation beyond nine tenths of the available memory fail, instead of waking the kernel's killer."""
    if _STATUS.exists():
        available = 1024 * (_kilobytes("MemAvailable", Path("/proc/meminfo")) * 9 // 10 + _kilobytes("VmData"))
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if hard == resource.RLIM_INFINITY or available < hard:
            resource.setrlimit(resource.RLIMIT_DATA, (available, hard))
