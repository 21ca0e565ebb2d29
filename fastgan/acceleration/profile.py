"""Measures a forward and backward pass of a model before and after it was accelerated."""

import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

MIN_ROUNDS = 7
MAX_ROUNDS = 100
SECONDS = 1.0  # about as long as the rounds of both go on


def compare(
    before: nn.Module, after: nn.Module, arguments: tuple[Any, ...], rounds: int = MAX_ROUNDS
) -> tuple[float, float]:
    """The median milliseconds of a step of each, in alternation, after two rounds that warm up (0 without any other).

    Changes their gradients and buffers: they are to be copies. The global random state is restored.
    """
    times: tuple[list[float], list[float]] = ([], [])
    cuda = any(t.is_cuda for t in (*_tensors(arguments), *before.parameters()))
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if cuda else []), torch.enable_grad():
        started = time.perf_counter()
        for done in range(-2, rounds):
            if done >= MIN_ROUNDS and time.perf_counter() - started > SECONDS:
                break
            for model, found in zip((before, after), times, strict=True):
                milliseconds = _step(model, arguments, cuda)
                if done >= 0:
                    found.append(milliseconds)
            if done < 0:
                started = time.perf_counter()
    return (statistics.median(times[0]), statistics.median(times[1])) if times[0] else (0.0, 0.0)


def _step(model: nn.Module, arguments: tuple[Any, ...], cuda: bool) -> float:
    model.zero_grad(set_to_none=True)
    if cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    outputs = [y for y in _tensors(model(*arguments)) if y.requires_grad]
    if outputs:
        torch.autograd.backward([y.float().mean() for y in outputs])
    if cuda:
        torch.cuda.synchronize()
    return (time.perf_counter() - start) * 1e3


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (tuple, list)):
        for value in values:
            yield from _tensors(value)
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))
