"""`OpSpec`, the description of an op; tests, benchmarks, docs and `fastgan info` iterate over `OPS`."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

FLOATING = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Sample:
    """One call of an op: its tensor arguments (None where optional) and its keyword arguments."""

    tensors: tuple[Tensor | None, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    smooth: bool = True
    """False where the inputs sit on a kink, so that finite differences say nothing."""

    def map(self, change: Callable[[Tensor], Tensor]) -> "Sample":
        """The same call with every tensor changed, e.g. moved to another dtype or memory format."""
        return replace(self, tensors=tuple(None if t is None else change(t) for t in self.tensors))


@dataclass(frozen=True)
class BenchShape:
    """A shape to benchmark: how to make the inputs, and the least work that any implementation must do."""

    label: str
    make: Callable[[torch.device, torch.dtype], Sample]
    bytes_forward: Callable[[int], int]
    """Element size -> bytes that forward must at least read and write."""
    flops_forward: int
    """Arithmetic operations of forward."""


@dataclass(frozen=True)
class OpSpec:
    """What the rest of the repository needs to know about an op.

    Attributes:
        name: the stem on every floor: fastgan/ops/<name>/, kernels/<name>.py, csrc/<name>.cpp and .cu,
            csrc/bindings/<name>.cpp, tests/ops/test_<name>.py.
        function: the public function, which validates and dispatches.
        reference: the same mathematics in plain PyTorch, differentiable to any order; tensors and keywords as in
            `function`.
        backends: the compiled backends in order of preference, each with the dtypes that it takes.
        order: how many derivative orders are exact; a higher one raises or (None) is composed of torch operations.
        samples: (device, dtype, generator) -> sample calls for the tests, small and away from kinks unless marked.
        kinks: (device, dtype) -> sample calls with inputs exactly on every kink, where docs/kinks.md says what its
            derivatives are; None for an op that is smooth.
        bench: the shapes to benchmark.
        paper: where the formula stands.
        eager: what a user of PyTorch writes, for the benchmarks; None where that is the reference, which may take more
            steps.
        apart: for an op with several outputs, which `function` and `reference` join into one tensor: the same two
            functions, returning them in a tuple. This is what is benchmarked.
        composed: the backends on which it has no kernels of its own, but is made of other ops. On none of its backends
            do its kernels do all: PyTorch's convolutions, whose rounding may depend on the number of threads, do the
            rest.
        tiled: it adds up its inputs in combinations, a tile at a time: an error is relative to the largest of them, and
            NaN and infinity reach other results of their tile.
        refuses: (backend, sample) -> why the backend cannot take a call for more than its device and dtype, else None.
    """

    name: str
    function: Callable[..., Tensor]
    reference: Callable[..., Tensor]
    backends: Mapping[str, tuple[torch.dtype, ...]]
    order: int | None
    samples: Callable[[torch.device, torch.dtype, torch.Generator], Iterator[Sample]]
    bench: tuple[BenchShape, ...]
    paper: str
    composed: tuple[str, ...] = ()
    tiled: bool = False
    kinks: Callable[[torch.device, torch.dtype], Iterator[Sample]] | None = None
    refuses: Callable[[str, Sample], str | None] = lambda backend, sample: None
    eager: Callable[..., Tensor] | None = None
    apart: tuple[Callable[..., tuple[Tensor, ...]], Callable[..., tuple[Tensor, ...]]] | None = None

    @property
    def timed(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """The function and what it is benchmarked against; they return a tensor or a tuple of tensors."""
        return self.apart or (self.function, self.eager or self.reference)


OPS: dict[str, OpSpec] = {}


def register(spec: OpSpec) -> OpSpec:
    """Adds an op to the registry; its name must be new."""
    if spec.name in OPS:
        raise ValueError(f"op {spec.name!r} is registered twice")
    OPS[spec.name] = spec
    return spec
