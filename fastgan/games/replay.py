"""Calls a closure repeatedly with the same random numbers."""

from collections.abc import Iterable

import torch
from torch import Tensor

from fastgan.games.player import Closure


class Replayed:
    """A closure whose every call draws what its first one drew from PyTorch's global generators: dropout, noise, the
    points of penalties.

    The first call moves the generators on, as ever; the others leave them as they were.

    Args:
        closure: returns a player's loss.
        devices: those that it computes on; the CPU is always one of them.
    """

    def __init__(self, closure: Closure, devices: Iterable[torch.device]) -> None:
        self._closure = closure
        self._gpus = sorted({device.index for device in devices if device.type == "cuda"})
        self._drawn_from: list[Tensor] = []

    def __call__(self) -> Tensor:
        if not self._drawn_from:
            self._drawn_from = [torch.get_rng_state(), *map(torch.cuda.get_rng_state, self._gpus)]
            return self._closure()
        with torch.random.fork_rng(devices=self._gpus):
            of_cpu, *of_gpus = self._drawn_from
            torch.set_rng_state(of_cpu)
            for gpu, state in zip(self._gpus, of_gpus, strict=True):
                torch.cuda.set_rng_state(state, gpu)
            return self._closure()
