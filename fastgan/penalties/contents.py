"""Reads and restores the contents of Python objects: containers, cells of closures, generators of random numbers."""

import random
import sys
from collections import deque
from types import CellType
from typing import Any

import torch

SMALL = 2**20
"""Bytes up to which memory is copied because a run might overwrite it."""

_EMPTY = object()
"""The content of a cell that is not assigned yet."""


def content(thing: Any) -> Any:
    """What `set_content` puts back: a shallow copy of a container, the state of a generator."""
    if isinstance(thing, dict):
        return dict(thing)
    if isinstance(thing, (list, deque)):
        return list(thing)
    if isinstance(thing, (set, bytearray)):
        return type(thing)(thing)
    if is_array(thing):
        return thing.copy() if thing.nbytes <= SMALL else None
    if isinstance(thing, CellType):
        try:
            return thing.cell_contents
        except ValueError:
            return _EMPTY
    if isinstance(thing, random.SystemRandom) or _is_captured(thing):
        return None
    if isinstance(thing, random.Random):
        return thing.getstate()
    if hasattr(thing, "bit_generator"):  # numpy.random.Generator
        return thing.bit_generator.state
    return thing.get_state()  # torch.Generator, numpy.random.RandomState


def set_content(thing: Any, before: Any) -> None:
    """Makes the content of a thing what it was."""
    if isinstance(thing, dict):
        _restore(thing, before)
    elif isinstance(thing, (list, deque)):
        if len(thing) != len(before) or any(a is not b for a, b in zip(thing, before, strict=True)):
            thing.clear()
            thing.extend(before)
    elif isinstance(thing, set):
        if thing != before:
            thing.clear()
            thing.update(before)
    elif isinstance(thing, bytearray):
        thing[:] = before
    elif isinstance(thing, CellType):
        if before is not _EMPTY:
            thing.cell_contents = before
        elif content(thing) is not _EMPTY:
            del thing.cell_contents
    elif before is None:  # what has no state that could be read
        return
    elif is_array(thing):
        thing[...] = before
    elif isinstance(thing, random.Random):
        thing.setstate(before)
    elif hasattr(thing, "bit_generator"):
        thing.bit_generator.state = before
    else:
        thing.set_state(before)


def is_array(thing: Any) -> bool:
    """Whether it is an array of NumPy's."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(thing, numpy.ndarray)


def _restore(now: dict, before: dict) -> None:
    same = len(now) == len(before) and all(a is b for a, b in zip(now.values(), before.values(), strict=True))
    if same and list(now) == list(before):
        return
    for name in [name for name in now if name not in before]:
        del now[name]
    now.update(before)
    if list(now) != list(before):  # what was taken out comes last
        now.clear()
        now.update(before)


def _is_captured(thing: Any) -> bool:
    """Whether it is a generator whose state is on a GPU that captures a graph, and cannot be read."""
    on_gpu = isinstance(thing, torch.Generator) and thing.device.type == "cuda"
    return on_gpu and torch.cuda.is_current_stream_capturing()


class RandomNumbers:
    """The states of the global random number generators: PyTorch's on the CPU and one device, Python's and NumPy's."""

    def __init__(self, device: torch.device) -> None:
        self._cpu, self._python = torch.get_rng_state(), random.getstate()
        numpy = sys.modules.get("numpy")
        self._numpy = None if numpy is None else numpy.random.get_state()
        self._cuda = None
        if device.type == "cuda" and not torch.cuda.is_current_stream_capturing():  # a captured step has been tried
            self._cuda = device, torch.cuda.get_rng_state(device)

    def put_back(self) -> None:
        torch.set_rng_state(self._cpu)
        random.setstate(self._python)
        if self._numpy is not None:
            sys.modules["numpy"].random.set_state(self._numpy)
        if self._cuda is not None:
            device, state = self._cuda
            torch.cuda.set_rng_state(state, device)
