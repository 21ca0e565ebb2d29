"""The cases of a run: op x shape x implementation x pass, all from the registry.

A stage is what a training step asks of an op:

- forward: without autograd, as when sampling;
- forward+backward: the output and the gradients of every tensor argument, for one cotangent;
- double backward: a gradient penalty step. Forward, backward with create_graph=True, then the gradients of the sum of
  squares of those first gradients, with respect to every tensor argument and to the cotangent (which in a network
  depends on the layers above).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

import fastgan.ops  # noqa: F401  (fills the registry)
from fastgan import backends
from fastgan.registry import OPS, BenchShape, OpSpec

STAGES = ("forward", "forward+backward", "double backward")
SEED = 20160610  # of the inputs: every implementation and process draws the same


@dataclass(frozen=True)
class Inputs:
    """One call's arguments, as leaves that require a gradient, and the cotangents of its outputs."""

    tensors: tuple[Tensor | None, ...]
    kwargs: Mapping[str, Any]
    cotangents: tuple[Tensor, ...]

    @property
    def given(self) -> list[Tensor]:
        return [t for t in self.tensors if t is not None]

    def map(self, change: Callable[[Tensor], Tensor]) -> "Inputs":
        """The same call with every tensor changed, as new leaves."""

        def leaf(t: Tensor) -> Tensor:
            return change(t.detach()).detach().requires_grad_()

        tensors = tuple(None if t is None else leaf(t) for t in self.tensors)
        return Inputs(tensors, self.kwargs, tuple(leaf(g) for g in self.cotangents))


@dataclass(frozen=True, eq=False)
class Case:
    """One op at one shape, dtype and device; hashed by identity, so that it can key a cache."""

    spec: OpSpec
    shape: BenchShape
    device: torch.device
    dtype: torch.dtype

    def inputs(self, draw: int = 0) -> Inputs:
        """Those that are timed, or for the check alone (benchmarks/correctness.py) another draw of them."""
        torch.manual_seed(SEED + draw)
        sample = self.shape.make(self.device, self.dtype)
        # Only the shape and dtype of the output, at no cost; keywords may hold tensors too.
        tensors, kwargs = tree_map_only(Tensor, lambda t: t.to("meta"), (sample.tensors, dict(sample.kwargs)))
        outputs = in_tuple(self.reference(*tensors, **kwargs))
        cotangents = tuple(torch.randn(y.shape, device=self.device, dtype=y.dtype) for y in outputs)
        return Inputs(sample.tensors, sample.kwargs, cotangents).map(lambda t: t)

    @property
    def reference(self) -> Callable[..., Any]:
        """The op in plain PyTorch, which returns a tensor or a tuple of tensors."""
        return self.spec.timed[1]

    def implementations(self, with_compile: bool = True) -> list[str]:
        """eager first, then compile, then every compiled backend that can run here, in the registry's order."""
        ours = [
            name
            for name in self.spec.backends
            if backends.unsupported(self.spec, name, self.device.type, self.dtype) is None
        ]
        return ["eager", *(["compile"] if with_compile else []), *ours]

    def function(self, implementation: str) -> Callable[..., Any]:
        """The function that an implementation's name stands for."""
        if implementation == "eager":
            return self.reference
        if implementation == "compile":
            torch._dynamo.reset()  # every shape is compiled for itself: static sizes are torch.compile's best case
            return torch.compile(self.reference, dynamic=False)

        ours = self.spec.timed[0]

        def forced(*tensors: Tensor | None, **kwargs: Any) -> Any:
            with backends.backend(implementation):
                return ours(*tensors, **kwargs)

        # Entering a context costs a microsecond or two, which a user of the default choice does not pay.
        with backends.backend("auto"):
            chosen = backends.select(self.spec.name, torch.empty(0, device=self.device, dtype=self.dtype))
        return ours if chosen == implementation else forced


def supports(implementation: str, stage: str) -> bool:
    """torch.compile's backward (AOTAutograd) cannot be differentiated again."""
    return not (implementation == "compile" and stage == "double backward")


def in_tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def run(function: Callable[..., Any], inputs: Inputs, stage: str) -> tuple[Tensor | None, ...]:
    """One stage: the outputs, then the first, then the second derivatives; None is a gradient identically zero."""
    if stage == "forward":
        with torch.no_grad():
            return in_tuple(function(*inputs.tensors, **inputs.kwargs))
    outputs = in_tuple(function(*inputs.tensors, **inputs.kwargs))
    detached = [y.detach() for y in outputs]
    if stage == "forward+backward":
        return (*detached, *torch.autograd.grad(outputs, inputs.given, inputs.cotangents))
    first = torch.autograd.grad(outputs, inputs.given, inputs.cotangents, create_graph=True)
    penalty = torch.stack([g.square().sum() for g in first]).sum()
    second = torch.autograd.grad(penalty, [*inputs.given, *inputs.cotangents], allow_unused=True)
    return (*detached, *(g.detach() for g in first), *second)


def cases(
    device: torch.device, dtype: torch.dtype, ops: list[str] | None = None, quick: bool = False, large: bool = False
) -> list[Case]:
    """The cases of a run. `quick` takes the first shape of each op, `large` adds `beyond_eager`."""
    found = []
    for spec in OPS.values():
        if ops and spec.name not in ops:
            continue
        shapes = [*spec.bench[: 1 if quick else None], *(beyond_eager(spec.name, device) if large else ())]
        found += [Case(spec, shape, device, dtype) for shape in shapes]
    return found


def beyond_eager(op: str, device: torch.device) -> list[BenchShape]:
    """Shapes whose eager composition outgrows a GPU; it needs two float32 tensors of B x B x K x C elements at least.

    1024 x 100 x 16 is beyond GPUs of 12 GB; larger ones get the first power of two that is beyond their own memory.
    """
    if op != "minibatch_discrimination":
        return []
    from fastgan.ops.minibatch_discrimination.spec import bench_shape

    batches, kernels, dims = [1024], 100, 16
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory  # bytes
        batch = 1024
        while 2 * 4 * batch**2 * kernels * dims < memory:
            batch *= 2
        batches = sorted({1024, batch})
    return [bench_shape(batch, kernels, dims) for batch in batches]
