"""The cases of the contract tests: every op of the registry, on every backend and device that can run here.

A new op is tested by being listed. Triton runs on the CPU in its interpreter, which must be chosen before triton is
imported: `TRITON_INTERPRET=1 pytest tests/ops` is that run, and tests the Triton backend only.
"""

import os
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

import fastgan.ops  # noqa: F401  (fills the registry)
from fastgan import backends
from fastgan.native import fills_its_memory
from fastgan.ops._common.layout import memory_order
from fastgan.registry import OPS, OpSpec, Sample

INTERPRETING = os.environ.get("TRITON_INTERPRET") == "1"


@dataclass(frozen=True)
class Case:
    spec: OpSpec
    backend: str
    device: torch.device

    def supports(self, dtype: torch.dtype) -> bool:
        return backends.unsupported(self.spec, self.backend, self.device.type, dtype) is None

    @property
    def widest(self) -> torch.dtype:
        """The most accurate dtype that the backend takes."""
        return torch.float64 if self.supports(torch.float64) else torch.float32

    def samples(self, dtype: torch.dtype, generator: torch.Generator) -> list[Sample]:
        """Those that the backend takes; tests of the op itself show that it refuses the others."""
        drawn = self.spec.samples(self.device, dtype, generator)
        return [sample for sample in drawn if self.spec.refuses(self.backend, sample) is None]

    def call(self, tensors, kwargs) -> Tensor:
        """The public function on this case's backend."""
        with backends.backend(self.backend):
            return self.spec.function(*tensors, **kwargs)


def compiled_cases() -> list:
    """(op, compiled backend, device) as pytest parameters."""
    found = []
    for spec in OPS.values():
        for backend in spec.backends:
            for device in ("cpu", "cuda"):
                runs_there = (backend == "cpu") == (device == "cpu") or (backend == "triton" and INTERPRETING)
                wanted_now = (backend == "triton" and device == "cpu") if INTERPRETING else True
                if runs_there and wanted_now:
                    found.append(_parameter(spec, backend, device))
    return found


def reference_cases() -> list:
    return [] if INTERPRETING else [_parameter(spec, "reference", "cpu") for spec in OPS.values()]


def _parameter(spec: OpSpec, backend: str, device: str):
    marks = [pytest.mark.gpu] if device == "cuda" else []
    return pytest.param(Case(spec, backend, torch.device(device)), marks=marks, id=f"{spec.name}-{backend}-{device}")


def one_of_each_kind(samples: list[Sample]) -> list[Sample]:
    """Samples that differ in more than their sizes and the constants of the formula: the first of each kind."""

    def kind(t):
        return None if t is None else (t.ndim, t.numel() == 0, memory_order(t) if fills_its_memory(t) else "strided")

    kinds = {}
    for sample in samples:
        kinds.setdefault((tuple(map(kind, sample.tensors)), tuple(map(type, sample.kwargs.values()))), sample)
    return list(kinds.values())


def leaves(sample: Sample) -> list[Tensor | None]:
    """Fresh tensors that require a gradient, with the memory order of the sample's."""
    return [None if t is None else t.detach().clone(memory_format=torch.preserve_format).requires_grad_()
            for t in sample.tensors]  # fmt: skip


def derivatives(function, tensors: list[Tensor | None], weights: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """Forward, first and second derivatives of `function` at `tensors`.

    The first is the gradient of <w0, y>, taken twice: alone, as training does, and with create_graph=True, for which
    an op may have other kernels. The second is the gradient, with respect to the inputs and to w0, of the sum of
    <w1, first derivative>, which is what the gradient of a gradient penalty is made of.
    """
    given = [t for t in tensors if t is not None]
    w0, w1 = weights
    w0 = w0.detach().clone().requires_grad_()
    y = function(tensors)
    alone = torch.autograd.grad(y, given, w0, retain_graph=True)
    first = torch.autograd.grad(y, given, w0, create_graph=True)
    penalty = sum((g * w1.flatten()[: g.numel()].view_as(g)).sum() for g in first)
    second = torch.autograd.grad(penalty, [*given, w0], allow_unused=True)
    results = {"forward": y, **{f"first/{i}": g for i, g in enumerate(first)}}
    results |= {f"first/alone/{i}": g for i, g in enumerate(alone)}
    for i, (g, t) in enumerate(zip(second, [*given, w0], strict=True)):
        results[f"second/{i}"] = torch.zeros_like(t) if g is None else g
    return {name: value.detach() for name, value in results.items()}


def draw_weights(case: Case, sample: Sample, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Cotangents for `derivatives`: one for the output, one long enough for any input."""
    y = case.spec.reference(*sample.tensors, **sample.kwargs)
    largest = max(t.numel() for t in sample.tensors if t is not None)
    w0 = torch.randn(y.shape, generator=generator, dtype=torch.float64)
    w1 = torch.randn(largest, generator=generator, dtype=torch.float64)
    return w0.to(y), w1.to(y)
