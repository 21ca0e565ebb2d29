"""The README's table of ops: backends and derivative orders from the registry, GPU runs from the results."""

import fastgan
from benchmarks.markdown import line
from benchmarks.results import OK, Results
from fastgan.registry import OPS, OpSpec

GPU = {"triton": "Triton", "cuda": "CUDA C++"}


def table(results: list[Results]) -> str:
    """A line for each registered op.

    "Run on a GPU" names the devices on which `python -m benchmarks --device cuda` found one of the op's GPU backends
    right.
    """
    lines = ["| `fastgan.ops` | what it does | CPU | GPU | derivatives | run on a GPU |", "|---|---|---|---|---|---|"]
    for spec in OPS.values():
        summary = getattr(fastgan.ops, spec.name).__doc__.splitlines()[0]
        cells = [f"`{spec.name}`", summary, _cpu(spec), _gpu(spec), _order(spec), _run_on(spec, results)]
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


def _run_on(spec: OpSpec, results: list[Results]) -> str:
    if not any(name in spec.backends for name in GPU):
        return "-"
    devices = [
        run.environment["device"]
        for run in results
        if run.environment["device_type"] == "cuda"
        and any(row.op == spec.name and row.implementation in GPU and row.status == OK for row in run.rows)
    ]
    return ", ".join(dict.fromkeys(devices)) or "no"
