"""The command `fastgan info`: versions, devices, and for every op and backend whether it can run, or why not."""

import platform
from typing import Annotated

import numpy
import torch
import typer
from rich.console import Console
from rich.table import Column, Table

import fastgan
from fastgan import backends, native
from fastgan.cli.application import app
from fastgan.registry import OPS, OpSpec

_SHORT = {torch.float64: "f64", torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}


@app.command()
def info(
    cuda: Annotated[bool, typer.Option("--cuda", help="Also look at the GPUs, which starts CUDA.")] = False,
) -> None:
    """Show which backends this installation has, and for each op which of them can run and why not."""
    report(cuda)


def report(cuda: bool = False, console: Console | None = None) -> None:
    """Prints the report. Starts a CUDA context, to name the GPUs, only if `cuda` is true."""
    console = console or Console()
    facts = Table.grid(padding=(0, 2))
    for name, value in {**_versions(), **_devices(cuda)}.items():
        facts.add_row(name, value)
    console.print(facts)
    console.print()
    op = Column("op", no_wrap=True)
    table = Table(op, "backend", "tensors on", "dtypes", "status", title="Ops and their backends")
    for spec in OPS.values():
        for row in _rows(spec):
            table.add_row(*row)
        table.add_section()
    console.print(table)


def _versions() -> dict[str, str]:
    try:
        import triton

        triton_version = triton.__version__
    except ImportError:
        triton_version = "not installed"
    built = native.reason_missing
    if built is None:
        extension = native.extension()
        built = f"built, {'with' if extension.has_cuda else 'without'} CUDA; uses {extension.instruction_set}"
    return {
        "fastgan": fastgan.__version__,
        "extension": built,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": triton_version,
        "numpy": numpy.__version__,
        "backend": f"{backends.wanted()} (FASTGAN_BACKEND)",
    }


def _devices(cuda: bool) -> dict[str, str]:
    cpu = f"{platform.machine()}, {torch.get_num_threads()} threads"
    if not torch.backends.cuda.is_built():
        return {"cpu": cpu, "cuda": "this torch is built without CUDA"}
    if not cuda:
        return {"cpu": cpu, "cuda": "not asked: `fastgan info --cuda` starts a CUDA context and looks"}
    if not torch.cuda.is_available():
        return {"cpu": cpu, "cuda": "no device found"}
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"cpu": cpu, "cuda": ", ".join(names)}


def _rows(spec: OpSpec) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [(spec.name, "reference", "any", "any", "available")]
    for name, dtypes in spec.backends.items():
        device = "cpu" if name == "cpu" else "cuda"
        reason = backends.missing(name)
        if reason is None and device == "cuda" and not torch.backends.cuda.is_built():
            reason = "this torch is built without CUDA"
        known = " ".join(_SHORT[dtype] for dtype in dtypes)
        rows.append(("", name, device, known, reason or "available"))
    return rows
