"""Times attention and its two derivatives, and the memory that they take, beside PyTorch's.

    python -m benchmarks.attention [--device cuda] [--shapes 1x1x4096x64 ...] [--json [PATH]]

Forward + backward, and the same with the backward of that backward, which gradient penalties need. "composed" is
softmax(q k') v in plain PyTorch, "SDPA" PyTorch's fused attention, whose second derivative exists only where it falls
back on composed operations (`SDPBackend.MATH`), "compiled" the composed form through torch.compile, which has no second
derivative. Results are checked against float64 before anything is timed; all run in this process, in alternation.
Memory is the peak over the inputs, in a process of its own; "-" where there is none, or too little for the matrices.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks import environment, measure, memory
from benchmarks.comparisons import Comparison, add_json_option
from fastgan.ops import attention
from fastgan.ops.attention.reference import attention_reference

if TYPE_CHECKING:  # imported where they are used: `make gpu` measures without rich
    from rich.console import Console

SUITE = "attention"
SHAPES = ("8x4x256x64", "8x1x1024x64", "1x1x4096x64", "1x1x16384x64")
LARGEST_MATRIX = 1 << 28
"""Elements of the N x M matrices beyond which only what does without them is run."""
STAGES = ("forward+backward", "with double backward")
MATH = "SDPA (math)"


def math_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    with sdpa_kernel(SDPBackend.MATH):
        return F.scaled_dot_product_attention(q, k, v)


def kinds(stage: str, elements: int) -> dict[str, Callable[..., Tensor]]:
    """What is measured of a stage, by name; the functions themselves, which a fresh process must be able to import."""
    found: dict[str, Callable[..., Tensor]] = {"fastgan": attention}
    if elements < LARGEST_MATRIX:
        found["composed"] = attention_reference
        if stage == STAGES[1]:
            found[MATH] = math_attention
    if stage == STAGES[0]:
        found["SDPA"] = F.scaled_dot_product_attention
        if elements < LARGEST_MATRIX:
            found["compiled"] = torch.compile(attention_reference)
    return found


def inputs(shape: str, device: torch.device, dtype: torch.dtype = torch.float32) -> tuple[list[Tensor], list[Tensor]]:
    """q, k and v, and cotangents of the output and of the three gradients."""
    sizes = tuple(int(size) for size in shape.split("x"))
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(sizes, generator=generator).to(device, dtype) for _ in range(7)]
    return [x.requires_grad_() for x in drawn[:3]], drawn[3:]


def forward_and_backward(function: Callable[..., Tensor], tensors: list[Tensor], cotangents: list[Tensor]) -> Any:
    return torch.autograd.grad(function(*tensors), tensors, cotangents[0])


def double_backward(function: Callable[..., Tensor], tensors: list[Tensor], cotangents: list[Tensor]) -> Any:
    g = cotangents[0].detach().requires_grad_()
    first = torch.autograd.grad(function(*tensors), tensors, g, create_graph=True)
    return torch.autograd.grad(first, [g, *tensors], cotangents[1:])


CALLS = dict(zip(STAGES, (forward_and_backward, double_backward), strict=True))


def peak(kind: str, stage: str, shape: str, device_type: str) -> int:
    """Bytes over the inputs; for a process of its own."""
    device = torch.device(device_type)
    tensors, cotangents = inputs(shape, device)
    function = {"composed": attention_reference, MATH: math_attention, "SDPA": F.scaled_dot_product_attention}
    call = partial(CALLS[stage], function.get(kind, attention), tensors, cotangents)
    return memory.peak_cuda(call) if device_type == "cuda" else memory.peak_cpu(call)


def error(function: Callable[..., Tensor], stage: str, shape: str, device: torch.device) -> float:
    """The largest relative error of a gradient against float64, on the first queries and keys of the shape."""
    tensors, cotangents = inputs(shape, device)
    small = [x.detach()[..., :512, :].requires_grad_() for x in tensors]
    cut = [x[..., :512, :] for x in cotangents]
    found = CALLS[stage](function, small, cut)
    wide = [x.detach().double().requires_grad_() for x in small]
    exact = CALLS[stage](attention_reference, wide, [x.double() for x in cut])
    return max(((a.double() - b).norm() / b.norm()).item() for a, b in zip(found, exact, strict=True))


def measure_shape(shape: str, device: torch.device, budget_s: float) -> dict[str, Any]:
    tensors, cotangents = inputs(shape, device)
    batch, heads, N, _ = tensors[0].shape
    row: dict[str, Any] = {"shape": shape}
    for stage in STAGES:
        functions = kinds(stage, batch * heads * N * N)
        errors = {
            name: error(f, stage, shape, device) for name, f in functions.items() if name in ("fastgan", "composed")
        }
        limit = 2 * errors.get("composed", 1e-6) + 4 * torch.finfo(torch.float32).eps
        if not errors["fastgan"] <= limit:
            raise SystemExit(f"{shape}: fastgan is off by {errors['fastgan']:.2g}, expected at most {limit:.2g}")
        calls = {name: partial(CALLS[stage], f, tensors, cotangents) for name, f in functions.items()}
        timings = measure.percentiles(calls, device, budget_s)
        for name, timing in timings.items():
            row[f"{name} {stage}"] = timing
            if name != "compiled":  # its process would measure the compiler
                row[f"{name} {stage} bytes"] = memory.in_fresh_process(peak, name, stage, shape, device.type)
        others = [timing["median_ms"] for name, timing in timings.items() if name != "fastgan"]
        row[f"speed-up {stage}"] = min(others) / timings["fastgan"]["median_ms"] if others else None
    return row


def print_table(rows: list[dict[str, Any]], console: "Console") -> None:
    from rich.table import Table

    names = ("fastgan", "composed", "SDPA", MATH, "compiled")
    table = Table()
    for column in ("shape", "stage", *names, "speed-up"):
        table.add_column(column, justify="left" if column in ("shape", "stage") else "right")
    for row in rows:
        for stage in STAGES:
            cells = [_cell(row.get(f"{name} {stage}"), row.get(f"{name} {stage} bytes")) for name in names]
            gain = row[f"speed-up {stage}"]
            table.add_row(row["shape"], stage, *cells, "" if gain is None else f"{gain:.2f}x")
    console.print(table)


def _cell(timing: dict[str, float] | None, size: int | None) -> str:
    if timing is None:
        return "-"
    text = f"{timing['median_ms']:.3g} ms"
    return text if size is None else f"{text}\n{size / (1 << 20):.3g} MiB"


def main(argv: list[str] | None = None) -> int:
    from rich.console import Console

    parser = argparse.ArgumentParser(prog="python -m benchmarks.attention", description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), metavar="BxHxNxD")
    parser.add_argument("--budget", type=float, default=8.0, help="seconds for each shape and stage")
    add_json_option(parser)
    arguments = parser.parse_args(argv)
    device = torch.device(arguments.device)
    console = Console(width=max(Console().width, 130))
    about = environment.collect(device)
    busy = environment.busy(about)
    if busy:
        console.print(f"This machine is busy (load {about['load_average']}): the figures will be inflated.")
    rows = [measure_shape(shape, device, arguments.budget) for shape in arguments.shapes]
    print_table(rows, console)
    if arguments.json:
        results = Comparison(SUITE, about, busy, arguments.budget, rows)
        console.print(f"wrote {results.save(arguments.json)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
