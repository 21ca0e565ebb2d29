"""Tensors that show accesses beyond their ends."""

import ctypes
import faulthandler
import mmap
import os
import traceback

import numpy as np
import torch

# Elements on either side: more than a kernel that forgets a bound of one tile would stray.
GUARD = 1 << 15
MAP_NORESERVE = 0x4000  # Linux's, as is the emulator; Python names it from 3.13 on


class Guarded:
    """A contiguous tensor between two zones of 0xff bytes, which are NaN in every floating-point type.

    A kernel that reads a zone computes NaN; one that writes there is found by `check`. Without `values` the
    tensor itself starts as 0xff too, so that `check` finds the elements that a kernel did not write.
    """

    def __init__(self, shape, dtype, values=None):
        count = torch.Size(shape).numel()
        size = torch.empty((), dtype=dtype).element_size()
        self._bytes = torch.full(((count + 2 * GUARD) * size,), 0xFF, dtype=torch.uint8)
        self._inside = slice(GUARD * size, (GUARD + count) * size)
        self.tensor = self._bytes[self._inside].view(dtype).view(shape)
        self._is_output = values is None
        if values is not None:
            self.tensor.copy_(values)

    def check(self):
        """The tensor, after asserting that the zones are untouched and that every element of an output was written."""
        before, after = self._bytes[: self._inside.start], self._bytes[self._inside.stop :]
        assert bool((before == 0xFF).all()), "the kernel wrote before the beginning of a tensor"
        assert bool((after == 0xFF).all()), "the kernel wrote beyond the end of a tensor"
        if self._is_output and self.tensor.numel():
            written = self._bytes[self._inside].view(-1, self.tensor.element_size()) != 0xFF
            assert bool(written.any(dim=1).all()), "the kernel left elements of an output unwritten"
        return self.tensor


def sparse(count, dtype):
    """A tensor of zeros that takes memory only where it is touched."""
    size = torch.empty((), dtype=dtype).element_size()
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
    return torch.from_numpy(np.frombuffer(mmap.mmap(-1, count * size, flags=flags), np.uint8)).view(dtype)


def fenced(values, at_the_end):
    """A copy of a contiguous tensor that ends, or begins, where memory does: reading on is a fault of the process."""
    page, data = mmap.PAGESIZE, values.contiguous().view(-1).view(torch.uint8)
    pages = -(-len(data) // page) * page
    memory = sparse(pages + 2 * page, torch.uint8)
    start = page + (pages - len(data) if at_the_end else 0)
    memory[start : start + len(data)] = data
    libc = ctypes.CDLL(None, use_errno=True)
    for fence in (0, page + pages):
        if libc.mprotect(ctypes.c_void_p(memory.data_ptr() + fence), ctypes.c_size_t(page), 0) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")
    return memory[start : start + len(data)].view(values.dtype).view(values.shape)


def dies(function):
    """Whether a signal ends a process, a copy of this one, that calls `function`; it must not raise."""
    child = os.fork()
    if child == 0:
        status = 1
        faulthandler.disable()  # pytest's would print a trace
        try:
            function()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the process raised: see its standard error"
    return os.WIFSIGNALED(status)
