"""Compiles every Triton kernel for real GPUs, which needs none: each launch of the contract's samples is compiled, by
`make test` for a dtype and an architecture, by `make test-all` for all.

ptxas reports on the result: no register spills to memory, and few enough registers to keep the GPU busy.
"""

import importlib
import pkgutil
import re
import subprocess
from pathlib import Path

import pytest
import torch

import fastgan.kernels
import fastgan.ops
from fastgan import backend, backends
from fastgan.ops import penalised_input
from fastgan.registry import OPS
from tests.ops.cases import INTERPRETING, Case, derivatives, draw_weights, leaves
from tests.rotation import in_turn

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
    # A tile's sums are in registers, 64 of them for 128x128 on 256 threads: room for a block of these, or two of 128.
    ("modulated_conv2d", "forward_kernel"): 192,
    ("modulated_conv2d", "data_grad_kernel"): 192,
    # Several tiles and a block of sums at once, tf32 in three parts for float32: room for two programs of 128.
    **{
        ("attention", f"{name}_kernel"): 255
        for name in ("forward", "grad_queries", "grad_keys", "grad_bias", "outputs", "queries", "keys", "bias")
    },
}
TRITON_OPS = [spec for spec in OPS.values() if "triton" in spec.backends]
PRODUCTS = {90: "wgmma.mma_async", 80: "mma.sync", 100: "tcgen05.mma"}
"""Architecture: its instruction for a product of matrices."""


def targets(spec) -> list:
    """(op, dtype, architecture) for all of them, of which `make test` compiles one."""
    return in_turn([(spec, dtype, sm) for dtype in (torch.bfloat16, torch.float32) for sm in PRODUCTS], spec.name)


def signature_of(value) -> str:
    if value is None:
        return "constexpr"
    if isinstance(value, torch.Tensor):
        return POINTERS[value.dtype]
    return "fp32" if isinstance(value, float) else "i32"


def signature_and_constants(kernel, arguments, constants) -> tuple[dict, dict]:
    names = kernel.arg_names
    signature = {name: signature_of(value) for name, value in zip(names, arguments, strict=False)}
    signature |= dict.fromkeys(constants, "constexpr")
    assert set(signature) == set(names)
    return signature, {name: None for name, kind in signature.items() if kind == "constexpr"} | constants


def kernel_modules() -> list:
    """The files of kernels/ that launch some."""
    names = [found.name for found in pkgutil.iter_modules(fastgan.kernels.__path__)]
    modules = [importlib.import_module(f"fastgan.kernels.{name}") for name in names if name != "launch"]
    return [module for module in modules if hasattr(module, "launch")]


def launches_of(spec, dtype, monkeypatch) -> dict:
    """Every distinct (kernel, signature, constants, options) that forward and two derivatives of the samples launch."""
    kernels = importlib.import_module(f"fastgan.kernels.{spec.name}")
    found = {}

    def record(kernel, blocks, warps, x, arguments, constants, stages=None):
        if not kernel.fn.__module__.startswith(kernels.__name__):  # the derivatives may be composed of other ops
            return
        signature, fixed = signature_and_constants(kernel, arguments, constants)
        key = (kernel.fn.__name__, str(sorted(signature.items())), str(sorted(fixed.items(), key=str)))
        found[key] = (kernel, signature, fixed, options_of(warps, stages))

    for module in kernel_modules():
        monkeypatch.setattr(module, "launch", record)
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


def options_of(warps: int, stages: int | None) -> dict:
    return {"num_warps": warps} if stages is None else {"num_warps": warps, "num_stages": stages}


def ptxas_report(ptx: str, capability: int, folder: Path) -> str:
    source = folder / "kernel.ptx"
    source.write_text(ptx)
    arch = nvidia.sm_arch_from_capability(capability)
    command = [nvidia.get_ptxas(capability).path, "-v", f"-arch={arch}", source, "-o", folder / "kernel.cubin"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stderr


@pytest.mark.parametrize(
    ("spec", "dtype", "capability"),
    [target for spec in TRITON_OPS for target in targets(spec)],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_compiles_without_spilling(spec, dtype, capability, monkeypatch, tmp_path):
    launches = launches_of(spec, dtype, monkeypatch)
    assert len(launches) >= 3, "expected forward and its derivatives, in several variants"
    for (name, _, fixed), (kernel, signature, constants, options) in launches.items():
        source = ASTSource(kernel, signature, constants)
        compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
        check_registers(spec.name, name, compiled, capability, tmp_path, fixed)


def check_registers(op: str, kernel: str, compiled, capability: int, folder: Path, what) -> None:
    report = ptxas_report(compiled.asm["ptx"], capability, folder)
    spilled = [int(n) for n in re.findall(r"(\d+) bytes spill", report)]
    registers = int(re.search(r"Used (\d+) registers", report).group(1))
    assert spilled, report
    assert not any(spilled), f"{kernel} {what}: {report}"
    assert registers <= REGISTERS.get((op, kernel), 64), f"{kernel} {what}: {registers} registers"


def training_layer(dtype: torch.dtype, monkeypatch) -> list:
    """(op, launch) of everything that a step of StyleGAN2's layer launches, batch 16, 512 -> 512 channels at 64x64."""
    found = []

    def empty(*shape, dtype=dtype):
        return torch.empty(shape, device="meta", dtype=dtype)

    def image():
        return empty(16, 64, 64, 512).permute(0, 3, 1, 2)

    activation = ("lrelu", 0.2, 2**0.5, 256.0)
    per_channel, noise, strength, b = (
        empty(*s, dtype=torch.float32) for s in ((16, 512), (1, 1, 64, 64), (1,), (512,))
    )
    sums = empty(16, 512, 3, dtype=torch.float64)
    small, weight = (per_channel, noise, strength, b), empty(512, 512, 3, 3)

    from fastgan.kernels import modulated_conv2d, scaled_bias_act

    for module in (modulated_conv2d, scaled_bias_act):
        name = module.__name__.rpartition(".")[2]
        monkeypatch.setattr(module, "launch", lambda *launch, name=name: found.append((name, launch)))
    modulated_conv2d.forward(image(), weight, per_channel, small, (image(), image()), activation)
    modulated_conv2d.data_grad(image(), weight, image(), per_channel, image(), sums[..., 0])
    for x in (image(), image().contiguous()):
        scaled_bias_act.forward(x, small, torch.empty_like(x), activation)
        scaled_bias_act.grad(x, x, small, (torch.empty_like(x), sums), activation, False)
    return found


def compile_as_launched(launch: tuple, capability: int):
    """As Triton compiles it when it is called: told which addresses and sizes are multiples of 16."""
    kernel, _, warps, _, arguments, constants, *stages = launch
    signature, fixed = signature_and_constants(kernel, arguments, constants)
    aligned = [
        i for i, value in enumerate(arguments)
        if isinstance(value, torch.Tensor) or (isinstance(value, int) and value % 16 == 0)
    ]  # fmt: skip
    source = ASTSource(kernel, signature, fixed, {(i,): [["tt.divisibility", 16]] for i in aligned})
    options = options_of(warps, *(stages or [None]))
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


@pytest.mark.parametrize("capability", in_turn(list(PRODUCTS), "training layer"))
def test_a_training_layer_uses_tensor_cores_and_wide_accesses(capability, monkeypatch, tmp_path):
    """And neither spills, nor takes more shared memory than a block may have, in bfloat16."""
    launches = training_layer(torch.bfloat16, monkeypatch)
    assert len(launches) == 6
    for op, launch in launches:
        compiled = compile_as_launched(launch, capability)
        name, ptx = launch[0].fn.__name__, compiled.asm["ptx"]
        check_registers(op, name, compiled, capability, tmp_path, launch[5])
        if op == "modulated_conv2d":
            assert PRODUCTS[capability] in ptx
            assert "cp.async.cg" in ptx, "the loads of the next tiles do not overlap the product"
            assert (
                compiled.metadata.shared <= 99 << 10
            )  # half of what a multiprocessor of sm_90 has, all that sm_86 has
        else:
            width = "v2.b32" if name == "grad_kernel" else "v4.b32"
            assert re.search(rf"ld\.global[.\w:]*\.{width}", ptx), f"{name} {launch[5]}"
            assert re.search(rf"st\.global[.\w:]*\.{width}", ptx), f"{name} {launch[5]}"


def test_float32_is_multiplied_in_float32(monkeypatch):
    for op, launch in training_layer(torch.float32, monkeypatch):
        if op == "modulated_conv2d":
            ptx = compile_as_launched(launch, 90).asm["ptx"]
            assert "tf32" not in ptx
            assert "fma.rn.f32" in ptx
