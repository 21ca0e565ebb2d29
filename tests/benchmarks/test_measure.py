"""Timers and memory meters against known cases: a sleep, an allocation, a process that fails."""

import os
import time
from pathlib import Path

import pytest
import torch

from benchmarks import ceiling, environment, measure, memory

MEGABYTES = 1 << 20


def allocate(megabytes):
    torch.ones(megabytes * MEGABYTES // 4)


def peak_of_allocation(megabytes):
    return memory.peak_cpu(lambda: allocate(megabytes))


def allocate_too_much():
    allocate(1 << 24)  # 16 TiB


def exit_at_once():
    os._exit(3)


def test_timer_sees_a_sleep_ratio():
    timings = measure.time_cpu({"short": lambda: time.sleep(0.004), "long": lambda: time.sleep(0.016)}, budget_s=0.3)
    short, long = timings["short"], timings["long"]
    assert short.median_ms >= 4
    assert 2 < long.median_ms / short.median_ms < 6
    assert short.samples == long.samples >= measure.MIN_ROUNDS


def test_timer_repeats_short_calls():
    timing = measure.time_cpu({"nothing": lambda: None}, budget_s=0.01)["nothing"]
    assert timing.calls_per_sample > 1000
    assert timing.median_ms < 0.01


def test_a_call_that_fails_in_the_middle_stops_no_other():
    remaining = iter(range(2))
    timings = measure.interleave({"good": (lambda: 1.0, 1), "bad": (lambda: next(remaining) + 1.0, 1)}, budget_s=0.05)
    assert isinstance(timings["bad"], StopIteration)
    assert timings["good"].median_ms == 1000


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
def test_memory_sees_a_known_allocation():
    peak = memory.in_fresh_process(peak_of_allocation, 64)
    assert 63.5 * MEGABYTES < peak < 66 * MEGABYTES  # the kernel counts pages in batches
    assert memory.in_fresh_process(peak_of_allocation, 0) < memory.RESOLUTION["cpu"]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
def test_too_much_memory_is_said_to_be_too_much():
    with pytest.raises(memory.NotEnoughMemoryError):
        memory.in_fresh_process(allocate_too_much)


def test_a_process_that_dies_is_an_error():
    with pytest.raises(RuntimeError, match="status 3"):
        memory.in_fresh_process(exit_at_once)


def test_bound_is_what_takes_longer():
    machine = ceiling.Ceiling(1 << 20, memory_bytes_per_s=10, cache_bytes_per_s=100, flops_per_s=1000)
    assert machine.bound(moved=100, flops=100, cached=True) == ("memory", 1.0)
    assert machine.bound(moved=100, flops=100, cached=False) == ("memory", 10.0)
    assert machine.bound(moved=100, flops=20_000, cached=True) == ("arithmetic", 20.0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("AMD EPYC, 2 cores", "amd-epyc-2-cores"),
        ("NVIDIA H200", "nvidia-h200"),
        ("Intel(R) Xeon(R) CPU @ 2.20GHz, 4 cores", "intel-xeon-cpu-2.20ghz-4-cores"),
    ],
)
def test_slug(name, expected):
    assert environment.slug(name) == expected


def test_environment_knows_the_flags_of_the_build():
    assert "-O3" in environment.compiler_flags()
