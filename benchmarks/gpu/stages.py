"""The stages of `make gpu`, the most valuable first; what each answers is listed in docs/gpu-todo.md.

The boxes are seconds on a machine of 16 cores. They add up to more than eight minutes on purpose: a stage rarely needs
all of its own, and what it leaves is left for the last.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.gpu.record import Record
from benchmarks.gpu.run import Stage, Task

INSTALL = (sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "--editable", ".")
ACCURACY = "tests/ops/test_accuracy.py::test_error_is_at_most_twice_that_of_pytorch"


@dataclass(frozen=True)
class Device:
    """The device that is tested: "cuda", or "cpu" to try the stages themselves out; its name and its architecture."""

    type: str
    name: str
    architecture: str  # e.g. 9.0


def stages(device: Device) -> list[Stage]:
    return [
        Stage("build", 180, lambda record: [_build(device, with_cuda=True)]),
        Stage("build without CUDA C++", 90, partial(_second_build, device=device)),
        Stage("machine", 40, lambda record: [_ours("machine", name, device, 40) for name in ("names", "ceiling")], 2),
        Stage("accuracy", 150, partial(_accuracy, device=device, dtypes=("float32", "bfloat16")), 8),
        Stage("critic_loss", 60, partial(_each, key="critic", module="critic_loss", device=device, box_s=45), 6),
        Stage("CUDA graphs", 60, lambda record: [] if device.type == "cpu" else _graphs(), 3),
        Stage("bandwidth", 120, partial(_each, key="op", module="bandwidth", device=device, box_s=30)),
        Stage("penalties", 100, partial(_each, key="critic", module="penalties", device=device, box_s=40)),
        Stage("spectral norm", 60, partial(_each, key="network", module="networks", device=device, box_s=30)),
        Stage("rest", 3600, partial(_rest, device=device)),
    ]


def _build(device: Device, with_cuda: bool) -> Task:
    environment = {"FASTGAN_CUDA": str(int(with_cuda)), "TORCH_CUDA_ARCH_LIST": device.architecture}
    name = f"sm_{device.architecture.replace('.', '')}" if with_cuda else "C++ only"
    return Task(name, INSTALL, 180, takes_rows=False, environment=environment)


def _second_build(record: Record, device: Device) -> list[Task]:
    """A .cu that does not compile must not keep the Triton kernels from being tried."""
    return [] if record.passed("build") else [_build(device, with_cuda=False)]


def _ours(module: str, name: str, device: Device, box_s: float) -> Task:
    command = (sys.executable, "-m", f"benchmarks.gpu.{module}", name, "--device", device.type)
    return Task(name, command, box_s)


def _tests(name: str, box_s: float, *arguments: str) -> Task:
    """pytest, whose outcomes are the rows."""
    command = (sys.executable, "-m", "pytest", "-q", "-p", "benchmarks.gpu.outcomes", *arguments)
    return Task(name, command, box_s)


def _names(record: Record, key: str) -> list[str]:
    """What the stage `machine` found under this key: "op", "critic" or "network"."""
    found = [row[key] for row in record.rows("machine") if key in row]
    if not found:
        raise LookupError(f"stage machine has found no {key}")
    return found


def _each(record: Record, key: str, module: str, device: Device, box_s: float) -> list[Task]:
    return [_ours(module, name, device, box_s) for name in _names(record, key)]


def _accuracy(record: Record, device: Device, dtypes: Sequence[str]) -> list[Task]:
    """tests/ops/test_accuracy.py: forward, first and second derivatives of all samples, for each op and backend."""
    _names(record, "op")
    tasks = []
    for row in record.rows("machine"):
        for backend in row.get("backends", ()):
            case = f"{row['op']}-{backend}-{device.type}"
            tests = [f"{ACCURACY}[{case}-{dtype}]" for dtype in dtypes]
            tasks.append(_tests(case, 100, *tests))
    return tasks


def _graphs() -> list[Task]:
    """A penalised step first."""
    selected = ("-m", "gpu", "-k", "graph or waits")
    return [_tests(folder, 60, *selected, f"tests/{folder}/test_gpu.py") for folder in ("penalties", "nn", "ops")]


def _rest(record: Record, device: Device) -> list[Task]:
    if device.type == "cpu":
        return []
    ops = ("derivatives", "kinks", "integration", "in_place", "interpolate", "convolution", "modulated_conv2d_triton")
    tested = (
        "penalties/test_gpu",
        "nn/test_gpu",
        "ops/test_gpu",
        *(f"ops/test_{op}" for op in ops),
        "games/test_closures",
    )
    return [
        *_accuracy(record, device, ("float16", "float64")),
        *(_tests(path, 120, "-m", "gpu", f"tests/{path}.py") for path in tested),
        _ours("networks", "styled_conv2d", device, 90),
        *(_ours("penalties", f"{critic} compiled", device, 150) for critic in _names(record, "critic")),
    ]
