"""A fake op for the tests of the benchmarks: the square root of one more, right or deliberately wrong."""

import torch

from fastgan.registry import BenchShape, OpSpec, Sample


def reference(x):
    return (x * x + 1).sqrt()


def slightly_wrong(x):
    return reference(x) * (1 + 1e-4)


def wrong_slope_only(x):
    """Right forward, half the gradient."""
    y = reference(x)
    return y.detach() + 0.5 * (y - y.detach())


def broken(x):
    raise RuntimeError("no such kernel")


def spec(function) -> OpSpec:
    def make(device, dtype):
        return Sample((torch.randn(32, 8, device=device, dtype=dtype),), label="32x8")

    return OpSpec(
        name="fake",
        function=function,
        reference=reference,
        backends={"cpu": (torch.float32,)},
        order=None,
        samples=lambda device, dtype, generator: iter(()),
        bench=(BenchShape("32x8", make, lambda size: 2 * size * 256, 3 * 256),),
        paper="none",
    )
