"""Freed memory stays in the process: what a step frees and the next one allocates again costs no page faults."""

import os
import platform
import subprocess
import sys

import pytest

from fastgan import allocation

PAGES = 12 * 8 * 256  # of 96 MB
SCRIPT = """
import resource, torch
from fastgan.allocation import keep_freed_memory
def step():
    blocks = [torch.ones(8 << 18) for _ in range(12)]
keep_freed_memory()
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library's malloc")
def test_a_step_takes_up_what_the_one_before_has_freed():
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_", "LD_PRELOAD"))}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=clean)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < PAGES / 20


class Libc:
    def __init__(self):
        self.calls = []

    def mallopt(self, *arguments):
        self.calls.append(arguments)


@pytest.mark.parametrize(
    ("environment", "calls"),
    [
        ({}, [(-1, 1 << 30)]),
        ({"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2"}, [(-1, 1 << 30)]),
        ({"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}, []),
        ({"MALLOC_TRIM_THRESHOLD_": "131072"}, []),
        ({"MALLOC_MMAP_THRESHOLD_": "131072"}, []),
    ],
    ids=str,
)
def test_thresholds_that_were_set_are_left(environment, calls, monkeypatch):
    libc = Libc()
    monkeypatch.setattr(allocation.ctypes, "CDLL", lambda name: libc)
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    allocation._keep_freed_memory.__wrapped__()
    assert libc.calls == calls


def test_another_c_library_is_left(monkeypatch):
    monkeypatch.setattr(allocation.ctypes, "CDLL", lambda name: object())
    allocation._keep_freed_memory.__wrapped__()
