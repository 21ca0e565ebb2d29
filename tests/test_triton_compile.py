"""Compiles every Triton kernel for real GPUs, which needs none: each launch of the contract's samples is compiled.

ptxas reports on the result: no register spills to memory, and few enough registers to keep the GPU busy.
"""

import importlib
import re
import subprocess
from pathlib import Path

import pytest
import torch

import fastgan.ops  # noqa: F401  (fills the registry)
from fastgan import backend, backends
from fastgan.ops import penalised_input
from fastgan.registry import OPS
from tests.ops.cases import INTERPRETING, Case, derivatives, draw_weights, leaves

pytest.importorskip("triton", reason="triton is not installed")
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia import compiler as nvidia
from triton.compiler import ASTSource

pytestmark = pytest.mark.skipif(INTERPRETING, reason="the interpreter replaces the compiler")

POINTERS = {
    torch.float32: "*fp32", torch.float64: "*fp64", torch.float16: "*fp16", torch.bfloat16: "*bf16",
    torch.int64: "*i64", torch.uint8: "*u8",
}  # fmt: skip


def penalised_inputs(g, **kwargs):
    for s in (None, torch.ones(len(g))):
        penalised_input(g, g, s, **kwargs)


# Functions beside an op's own that launch its kernels, called with a sample's arguments.
ALSO = {"gradient_norm_penalty": penalised_inputs}
# 64 registers leave room for 1,024 threads, half of what a multiprocessor holds. Where a kernel needs more:
REGISTERS = {
    # Three sums for each element, and sm_80 takes registers to convert bfloat16: room for three blocks of 256 threads.
    ("scaled_bias_act", "grad_kernel"): 80,
}
TRITON_OPS = [spec for spec in OPS.values() if "triton" in spec.backends]


def signature_of(value) -> str:
    if value is None:
        return "constexpr"
    if isinstance(value, torch.Tensor):
        return POINTERS[value.dtype]
    return "fp32" if isinstance(value, float) else "i32"


def launches_of(spec, dtype, monkeypatch) -> dict:
    """Every distinct (kernel, signature, constants, warps) that forward and two derivatives of the samples launch."""
    kernels = importlib.import_module(f"fastgan.kernels.{spec.name}")
    found = {}

    def record(kernel, blocks, warps, x, arguments, constants):
        if kernel.fn.__module__ != kernels.__name__:  # the derivatives may be composed of other ops
            return
        names = kernel.arg_names
        signature = {name: signature_of(value) for name, value in zip(names, arguments, strict=False)}
        signature |= dict.fromkeys(constants, "constexpr")
        fixed = {name: None for name, kind in signature.items() if kind == "constexpr"} | constants
        assert set(signature) == set(names)
        key = (kernel.fn.__name__, str(sorted(signature.items())), str(sorted(fixed.items(), key=str)))
        found[key] = (kernel, signature, fixed, warps)

    for other in TRITON_OPS:
        monkeypatch.setattr(importlib.import_module(f"fastgan.kernels.{other.name}"), "launch", record)
    monkeypatch.setattr(backends, "unsupported", lambda *_: None)
    generator = torch.Generator().manual_seed(0)
    case = Case(spec, "triton", torch.device("cpu"))
    with backend("triton"):
        for sample in case.samples(dtype, generator):
            if sample.tensors[0].numel():
                weights = draw_weights(case, sample, generator)
                derivatives(lambda ts, s=sample: spec.function(*ts, **s.kwargs), leaves(sample), weights)
                if spec.name in ALSO:
                    ALSO[spec.name](*sample.tensors, **sample.kwargs)
    return found


def ptxas_report(ptx: str, capability: int, folder: Path) -> str:
    source = folder / "kernel.ptx"
    source.write_text(ptx)
    arch = nvidia.sm_arch_from_capability(capability)
    command = [nvidia.get_ptxas(capability).path, "-v", f"-arch={arch}", source, "-o", folder / "kernel.cubin"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stderr


@pytest.mark.parametrize("capability", [80, 90, 100], ids=lambda c: f"sm_{c}")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("spec", TRITON_OPS, ids=lambda spec: spec.name)
def test_compiles_without_spilling(spec, dtype, capability, monkeypatch, tmp_path):
    launches = launches_of(spec, dtype, monkeypatch)
    assert len(launches) >= 3, "expected forward and its derivatives, in several variants"
    for (name, _, fixed), (kernel, signature, constants, warps) in launches.items():
        compiled = triton.compile(
            ASTSource(kernel, signature, constants),
            target=GPUTarget("cuda", capability, 32),
            options={"num_warps": warps},
        )
        report = ptxas_report(compiled.asm["ptx"], capability, tmp_path)
        spilled = [int(n) for n in re.findall(r"(\d+) bytes spill", report)]
        registers = int(re.search(r"Used (\d+) registers", report).group(1))
        assert spilled, report
        assert not any(spilled), f"{name} {fixed}: {report}"
        assert registers <= REGISTERS.get((spec.name, name), 64), f"{name} {fixed}: {registers} registers"
