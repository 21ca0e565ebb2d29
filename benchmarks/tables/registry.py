"""The README's table of ops: backends and derivative orders from the registry, GPU runs from the results."""

import fastgan
from benchmarks.markdown import line
from fastgan.registry import OPS, OpSpec

GPU = {"triton": "Triton", "cuda": "CUDA C++"}


def table(devices: dict[str, list[str]]) -> str:
    """A line for each registered op; "run on a GPU" names its `devices` (`benchmarks.gpu_runs.devices_by_op`)."""
    lines = ["| `fastgan.ops` | what it does | CPU | GPU | derivatives | run on a GPU |", "|---|---|---|---|---|---|"]
    for spec in OPS.values():
        summary = getattr(fastgan.ops, spec.name).__doc__.splitlines()[0]
        cells = [f"`{spec.name}`", summary, _cpu(spec), _gpu(spec), _order(spec), _run_on(spec, devices)]
        lines.append(line(cells))
    return "\n".join(lines)


def _cpu(spec: OpSpec) -> str:
    if "cpu" not in spec.backends:
        return "PyTorch"
    return "C++, by other ops" if "cpu" in spec.composed else "C++"


def _gpu(spec: OpSpec) -> str:
    return ", ".join(text for name, text in GPU.items() if name in spec.backends) or "PyTorch"


def _order(spec: OpSpec) -> str:
    return "any order" if spec.order is None else f"up to order {spec.order}"


def _run_on(spec: OpSpec, devices: dict[str, list[str]]) -> str:
    if not any(name in spec.backends for name in GPU):
        return "-"
    return ", ".join(devices.get(spec.name, [])) or "no"
