"""Freed memory stays in the process: what a step frees and the next one allocates again costs no page faults."""

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library's malloc")

PAGES = 12 * 8 * 256  # of 96 MB
SCRIPT = """
import resource, torch
from fastgan.allocation import keep_freed_memory
def step():
    blocks = [torch.ones(8 << 18) for _ in range(12)]
def faults():
    for _ in range(3):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
found = [faults()]
keep_freed_memory()
print(*found, faults())
"""


def faults(**environment):
    """Of a step before and after `keep_freed_memory`, in a process of its own."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_", "LD_PRELOAD"))}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env={**clean, **environment})
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


def test_freed_memory_is_kept():
    before, after = faults()
    assert before > PAGES / 2
    assert after < PAGES / 20


@pytest.mark.parametrize(
    "environment",
    [{"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}],
    ids=["variable", "tunable"],
)
def test_thresholds_that_were_set_are_left(environment):
    _, after = faults(**environment)
    assert after > PAGES / 2
