"""Times the maximum mean discrepancy: by one product of matrices, and by all BxBxF differences.

    python -m benchmarks.mmd [--device cuda] [--kernel gaussian] [--batches 64 256] [--features 16] [--threads 1]

Each is checked against float64 before anything is timed; all run in this process, in alternation.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks import environment, measure
from fastgan.losses import maximum_mean_discrepancy
from fastgan.losses.kernels import KERNELS, Kernel

STAGES = ("forward", "forward+backward", "double backward")


def by_differences(x: Tensor, y: Tensor, kernel: Kernel) -> Tensor:
    """The same from [B, B, F], as it is usually written."""

    def values(a: Tensor, b: Tensor) -> Tensor:
        return kernel((a[:, None] - b).square().sum(2))

    def pairs(a: Tensor) -> Tensor:
        found, n = values(a, a), len(a)
        return (found.sum() - found.diagonal().sum()) / (n * (n - 1))

    return pairs(x) + pairs(y) - 2 * values(x, y).mean()


def run(estimate: Callable[..., Tensor], x: Tensor, y: Tensor, stage: str) -> tuple[Tensor, ...]:
    """The results of a stage; double backward is that of a penalty on the gradient."""
    value = estimate(x, y)
    if stage == "forward":
        return (value,)
    gradients = torch.autograd.grad(value, (x, y), create_graph=stage == "double backward")
    if stage == "forward+backward":
        return gradients
    return torch.autograd.grad(sum(g.square().sum() for g in gradients), (x, y))


def measure_case(kernel: Kernel, batch: int, features: int, device: torch.device, budget_s: float) -> list[list[str]]:
    torch.manual_seed(0)
    x, y = (torch.randn(batch, features, device=device, requires_grad=True) for _ in range(2))
    ours, differences = (partial(f, kernel=kernel) for f in (maximum_mean_discrepancy, by_differences))
    ways = {"fastgan": ours, "BxBxF": differences}
    compiled = {f"{name}, compiled": torch.compile(f, dynamic=False) for name, f in ways.items()}
    rows = []
    for stage in STAGES:
        tried = ways if stage == "double backward" else {**ways, **compiled}
        exact = run(differences, x.detach().double().requires_grad_(), y.detach().double().requires_grad_(), stage)
        for name, way in tried.items():
            for found, truth in zip(run(way, x, y, stage), exact, strict=True):
                error, limit = (found - truth).norm().item(), 1e-4 * truth.norm().item() + 1e-5  # of terms up to 5
                if not error <= limit:
                    raise SystemExit(f"{name}, {batch}x{features}, {stage}: off by {error:.2g}, more than {limit:.2g}")
        times = measure.percentiles(
            {name: partial(run, way, x, y, stage) for name, way in tried.items()}, device, budget_s
        )
        cells = [f"{times[name]['median_ms']:.3g} ms" if name in times else "-" for name in (*ways, *compiled)]
        rows.append([f"{batch}x{features}", stage, *cells])
    return rows


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mmd", description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--kernel", choices=list(KERNELS), default="rational_quadratic")
    parser.add_argument("--batches", nargs="+", type=int, default=[64, 256, 1024])
    parser.add_argument("--features", nargs="+", type=int, default=[16, 128])
    parser.add_argument("--threads", type=int, help="default: PyTorch's")
    parser.add_argument("--budget", type=float, default=3.0, help="seconds for each shape and stage")
    arguments = parser.parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    console = Console(width=max(Console().width, 120))
    about = environment.collect(device)
    if environment.busy(about):
        console.print(f"This machine is busy (load {about['load_average']}): the figures will be inflated.")
    table = Table("BxF", "stage", "fastgan", "BxBxF", "fastgan, compiled", "BxBxF, compiled")
    for batch in arguments.batches:
        for features in arguments.features:
            for row in measure_case(KERNELS[arguments.kernel], batch, features, device, arguments.budget):
                table.add_row(*row)
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
