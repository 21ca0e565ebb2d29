"""Timers. All implementations of a case are sampled in turn, in one process, so that drift affects them alike.

A sample is the mean time of enough consecutive calls to last MIN_SAMPLE_S (one call, on a GPU); a timing is the median
and the 20th and 80th percentiles of the samples. Rounds are repeated until the budget of seconds is used up.
"""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

MIN_SAMPLE_S = 2e-3
SETTLE_S = 5e-3
"""Rest before a sample on the CPU: torch.compile's code brings an OpenMP runtime of its own, whose threads go on
spinning after a call and would take a core from the implementation that is sampled next."""
MIN_ROUNDS, MAX_ROUNDS = 3, 200

Call = Callable[[], object]
Sampler = Callable[[], float]
"""Returns one sample: seconds per call."""


@dataclass(frozen=True)
class Timing:
    median_ms: float
    p20_ms: float
    p80_ms: float
    samples: int
    calls_per_sample: int


def interleave(samplers: Mapping[str, tuple[Sampler, int]], budget_s: float) -> dict[str, Timing | Exception]:
    """Samples each in turn, starting with another one in every round; the int is the calls per sample.

    One that raises is dropped and gives its exception; the others go on.
    """
    taken: dict[str, list[float]] = {name: [] for name in samplers}
    failed: dict[str, Timing | Exception] = {}
    gc.collect()
    gc.disable()  # as timeit does: a collection in the middle of a sample belongs to none of them
    end = time.perf_counter() + budget_s
    try:
        for round_ in range(MAX_ROUNDS):
            names = [name for name in samplers if name not in failed]
            for i in range(len(names)):
                name = names[(round_ + i) % len(names)]
                try:
                    taken[name].append(samplers[name][0]())
                except Exception as error:
                    failed[name] = error.with_traceback(None)  # the traceback would keep its tensors alive
            if round_ + 1 >= MIN_ROUNDS and time.perf_counter() > end:
                break
    finally:
        gc.enable()
    return {name: failed.get(name) or _summary(taken[name], n) for name, (_, n) in samplers.items()}


def _summary(seconds: list[float], calls: int) -> Timing:
    ms = [1e3 * s for s in seconds]
    cuts = statistics.quantiles(ms, n=5, method="inclusive") if len(ms) > 1 else [ms[0]] * 4
    return Timing(statistics.median(ms), cuts[0], cuts[3], len(ms), calls)


def time_cpu(calls: Mapping[str, Call], budget_s: float) -> dict[str, Timing | Exception]:
    """Wall time of calls that return when they are done."""
    return interleave({name: _cpu_sampler(call) for name, call in calls.items()}, budget_s)


def _cpu_sampler(call: Call) -> tuple[Sampler, int]:
    def seconds(n: int) -> float:
        start = time.perf_counter()
        for _ in range(n):
            call()
        return (time.perf_counter() - start) / n

    once = seconds(1)  # also the warm-up
    if once < MIN_SAMPLE_S:
        once = seconds(3)  # the first call of a microsecond's work says little
    n = max(1, round(MIN_SAMPLE_S / once))

    def sample() -> float:
        time.sleep(SETTLE_S)
        if once < MIN_SAMPLE_S:
            call()  # wakes this implementation's own threads
        return seconds(n)

    return sample, n


def percentiles(calls: Mapping[str, Call], device: torch.device, budget_s: float) -> dict[str, dict[str, float]]:
    """Wall time of each call in ms, of whole calls from an idle GPU on a GPU, under the names that go into a JSON.

    Raises:
        Exception: what a call raised.
    """
    timer = time_cpu if device.type == "cpu" else Cuda(device).time_calls
    found = {}
    for name, timing in timer(calls, budget_s).items():
        if isinstance(timing, Exception):
            raise timing
        found[name] = {"median_ms": timing.median_ms, "p20_ms": timing.p20_ms, "p80_ms": timing.p80_ms}
    return found


class Cuda:
    """Events around single calls on an idle GPU whose L2 cache has been overwritten."""

    def __init__(self, device: torch.device) -> None:
        cache = torch.cuda.get_device_properties(device).L2_cache_size  # bytes
        self.flush = torch.empty(max(4 * cache, 64 << 20), dtype=torch.int8, device=device)

    def time_calls(self, calls: Mapping[str, Call], budget_s: float) -> dict[str, Timing | Exception]:
        """From an idle GPU: includes what Python and the launches cost where the GPU waits for them."""
        samplers = {name: (lambda c=call: self._seconds(c, idle=True), 1) for name, call in calls.items()}
        return interleave(samplers, budget_s)

    def time_graphs(self, calls: Mapping[str, Call], budget_s: float) -> dict[str, Timing | Exception]:
        """Replays of CUDA graphs: the GPU's time alone. An implementation that cannot be captured gives why."""
        graphs: dict[str, torch.cuda.CUDAGraph] = {}
        refused: dict[str, Timing | Exception] = {}
        for name, call in calls.items():
            try:
                graphs[name] = self._capture(call)
            except Exception as error:
                refused[name] = error.with_traceback(None)
        samplers = {name: (lambda g=graph: self._seconds(g.replay, idle=False), 1) for name, graph in graphs.items()}
        return {**interleave(samplers, budget_s), **refused}

    def _capture(self, call: Call) -> torch.cuda.CUDAGraph:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                call()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
        graph.replay()
        torch.cuda.synchronize()
        return graph

    def _seconds(self, call: Call, idle: bool) -> float:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        self.flush.zero_()
        if idle:
            torch.cuda.synchronize()
        start.record()
        call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) * 1e-3
