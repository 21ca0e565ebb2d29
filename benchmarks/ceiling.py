"""The machine's measured limits: copy bandwidth in bytes/s and matrix products in FLOP/s."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

REPEATS = 10
BYTES_PER_ELEMENT = 4


@dataclass(frozen=True)
class Ceiling:
    """Best of REPEATS each.

    Attributes:
        cache_bytes: size of the last-level cache.
        memory_bytes_per_s: copy_ of tensors of at least four times the cache, counting the read and the write.
        cache_bytes_per_s: copy_ of tensors that share a quarter of the cache.
        flops_per_s: float32 matrix product (TF32 off, as is the default), a multiply-add counted as two. Work without
            multiply-adds can reach half of it.
    """

    cache_bytes: int
    memory_bytes_per_s: float
    cache_bytes_per_s: float
    flops_per_s: float

    def bound(self, moved: int, flops: int, cached: bool) -> tuple[str, float]:
        """What bounds work that moves `moved` bytes, and the least time in seconds at that ceiling.

        Work is "memory" or "arithmetic" bound by which takes longer from main memory. `cached` says whether the inputs
        may come from the cache (a GPU's is flushed before every sample), whose bandwidth is then the ceiling.
        """
        arithmetic = flops / self.flops_per_s
        if arithmetic > moved / self.memory_bytes_per_s:
            return "arithmetic", arithmetic
        in_cache = cached and moved <= self.cache_bytes // 2
        return "memory", moved / (self.cache_bytes_per_s if in_cache else self.memory_bytes_per_s)


def measure(device: torch.device) -> Ceiling:
    cache = last_level_cache(device)
    on_gpu = device.type == "cuda"
    size = 8192 if on_gpu else 2048
    large = min(max(4 * cache, 1 << 30 if on_gpu else 128 << 20), 1 << 30)
    return Ceiling(
        cache_bytes=cache,
        memory_bytes_per_s=_copy(device, large),
        cache_bytes_per_s=_copy(device, cache // 8),
        flops_per_s=_matmul(device, size),
    )


def last_level_cache(device: torch.device) -> int:
    """Bytes; 32 MiB where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).L2_cache_size
    sizes = [_cache_size(path) for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    if sizes:
        return max(sizes)
    name = "SC_LEVEL3_CACHE_SIZE"
    return (os.sysconf(name) if name in os.sysconf_names else 0) or 32 << 20


def _cache_size(path: Path) -> int:
    text = path.read_text().strip()  # e.g. 32768K
    return int(text.rstrip("KM")) << {"K": 10, "M": 20}.get(text[-1], 0)


def _copy(device: torch.device, size: int) -> float:
    """Bytes/s of a copy between two tensors of `size` bytes."""
    x = torch.zeros(size // BYTES_PER_ELEMENT, device=device)
    y = torch.zeros_like(x)
    calls = max(1, (64 << 20) // size)  # small copies are repeated, so that the clock and the launch do not show
    return 2 * size / _best(lambda: y.copy_(x), device, calls)


def _matmul(device: torch.device, n: int) -> float:
    a, b = torch.randn(n, n, device=device), torch.randn(n, n, device=device)
    c = torch.empty(n, n, device=device)
    return 2 * n**3 / _best(lambda: torch.mm(a, b, out=c), device, 1)


def _best(call: Callable[[], object], device: torch.device, calls: int) -> float:
    """Least seconds per call, over REPEATS runs of `calls` calls after a warm-up."""
    best = float("inf")
    for repeat in range(REPEATS + 1):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if repeat:
            best = min(best, (time.perf_counter() - start) / calls)
    return best
