"""Some cases of a long list for each version of the code: `make test` runs one part, `make test-all` everything.

Which part it is follows from the sources, so that every version is tried on other cases, and one version always on the
same ones. A case that is left out has the mark `thorough`.
"""

import functools
import hashlib
import zlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("csrc", "fastgan", "kernels")


@functools.cache
def version() -> int:
    """A number of the code's own: a digest of every source file."""
    digest = hashlib.sha256()
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".cpp", ".cu", ".h", ".cuh"):
                digest.update(path.read_bytes())
    return int.from_bytes(digest.digest()[:4], "little")


def in_turn(cases, name: str, run: int = 1) -> list:
    """The cases for `parametrize`, all but `run` of them marked `thorough`.

    Args:
        cases: values, tuples of values, or `pytest.param`.
        name: what is parametrized, so that two lists of one length do not move together.
        run: how many cases `make test` runs.
    """
    chosen = sorted(range(len(cases)), key=lambda i: hashlib.sha256(f"{version()} {name} {i}".encode()).digest())[:run]
    return [case if i in chosen else left_out(case) for i, case in enumerate(cases)]


def left_out(case):
    """A case that only `make test-all` runs."""
    if hasattr(case, "marks"):  # a pytest.param
        return pytest.param(*case.values, id=case.id, marks=[*case.marks, pytest.mark.thorough])
    return pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.thorough)


def in_share(test_id: str, parts: int) -> bool:
    """Whether a test is among the part of `parts` whose turn it is."""
    return (zlib.crc32(test_id.encode()) + version()) % parts == 0
