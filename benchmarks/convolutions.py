"""`python -m benchmarks.convolutions`: every pass of the convolutions that fastgan computes on a CPU, beside PyTorch's.

The passes as a step takes them: forward, the gradient to the image, that to the filters. One call of each in turn, in
one process; medians. A ratio is printed where our result is as near to float64 as twice PyTorch's.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import fastgan
from fastgan.ops.convolution import passes
from fastgan.ops.convolution.passes import ConvolutionConfig

ROUNDS, WARM_UP = 40, 3


@dataclass(frozen=True)
class Shape:
    """A convolution: batch, channels of x and of y, side of x and of the filters."""

    B: int
    C: int
    K: int
    side: int
    taps: int
    stride: int = 1
    padding: int = 0
    groups: int = 1

    def __str__(self) -> str:
        filters = f"{self.taps}x{self.taps}" + (f" stride {self.stride}" if self.stride > 1 else "")
        filters += f" in {self.groups} groups" if self.groups > 1 else ""
        return f"{self.B}x{self.C}->{self.K}x{self.side}x{self.side} {filters}"


SHAPES = (
    Shape(16, 48, 48, 32, 3, padding=1),
    Shape(16, 96, 96, 16, 3, padding=1),
    Shape(16, 192, 192, 32, 3, padding=1, groups=12),  # R3GAN's, 16 channels in a group
    Shape(16, 192, 192, 16, 3, padding=1, groups=12),
    Shape(16, 192, 192, 8, 3, padding=1, groups=12),
    Shape(16, 192, 192, 4, 3, padding=1, groups=12),
    Shape(2, 192, 192, 64, 3, padding=1, groups=12),
    Shape(16, 192, 192, 16, 3, padding=1, groups=6),
    Shape(16, 192, 192, 16, 3, padding=1, groups=3),
    Shape(16, 48, 96, 33, 3, stride=2),  # StyleGAN2's critic, after its blur; and its generator's, transposed
    Shape(16, 96, 96, 17, 3, stride=2),
    Shape(64, 32, 64, 32, 4, stride=2, padding=1),  # DCGAN's
    Shape(64, 128, 256, 8, 4, stride=2, padding=1),
    Shape(8, 512, 512, 8, 4, stride=2, padding=1),
    Shape(16, 3, 48, 32, 1),  # from and to the channels of an image
    Shape(16, 48, 3, 32, 1),
    Shape(16, 48, 96, 16, 1),
)

Pass = Callable[[], Tensor | None]


def passes_of(x: Tensor, w: Tensor, dy: Tensor, config: ConvolutionConfig) -> dict[str, Pass]:
    return {
        "forward": lambda: passes.forward(x, w, None, config),
        "to the image": lambda: passes.gradients(dy, x, w, config, (True, False, False))[0],
        "to the filters": lambda: passes.gradients(dy, x, w, config, (False, True, False))[1],
    }


def medians(*functions: Pass) -> list[float]:
    """Median milliseconds of each function, called in turn."""
    times: list[list[float]] = [[] for _ in functions]
    for turn in range(WARM_UP + ROUNDS):
        for kept, function in zip(times, functions, strict=True):
            start = time.perf_counter()
            function()
            if turn >= WARM_UP:
                kept.append(1000 * (time.perf_counter() - start))
    return [statistics.median(kept) for kept in times]


def error(found: Tensor | None, truth: Tensor | None) -> float:
    assert found is not None
    assert truth is not None
    return ((found - truth).norm() / truth.norm()).item()


def add_rows(table: Table, shape: Shape) -> bool:
    """Adds the three passes of a shape to the table; returns whether all are right."""
    x = torch.randn(shape.B, shape.C, shape.side, shape.side)
    w = torch.randn(shape.K, shape.C // shape.groups, shape.taps, shape.taps)
    plain = ConvolutionConfig((shape.stride,) * 2, (shape.padding,) * 2, (1, 1), False, (0, 0), shape.groups)
    dy = torch.randn_like(passes.forward(x, w, None, plain))
    ours, torchs = passes_of(x, w, dy, plain.chosen(x, w, None)), passes_of(x, w, dy, plain)
    exact = passes_of(x.double(), w.double(), dy.double(), plain)
    right = True
    for name in ours:
        truth = exact[name]()
        allowed = max(2 * error(torchs[name](), truth), torch.finfo(x.dtype).eps)
        here = error(ours[name](), truth) <= allowed
        mine, other = medians(ours[name], torchs[name])
        table.add_row(
            str(shape), name, f"{other:.3g} ms", f"{mine:.3g} ms", f"{other / mine:.2f}x" if here else "WRONG"
        )
        right = right and here
    return right


def main() -> None:
    """Prints the table; exit status 1 if a pass is wrong."""
    argparse.ArgumentParser(prog="python -m benchmarks.convolutions", description=__doc__).parse_args()
    torch.manual_seed(0)
    table = Table("convolution", "pass", "PyTorch", "fastgan", "ratio")
    with fastgan.backend("auto"):
        right = [add_rows(table, shape) for shape in SHAPES]
    Console().print(f"{torch.get_num_threads()} threads, float32", table)
    if not all(right):
        raise SystemExit("a pass is wrong")


if __name__ == "__main__":
    main()
