"""Compiles every CUDA kernel and reads ptxas's report, which needs no GPU: no register spills."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.rotation import in_turn

CSRC = Path(__file__).resolve().parent.parent / "csrc"
SOURCES = sorted(CSRC.glob("*.cu"))
ARCHITECTURES = ("80", "90")
# 65,536 registers a multiprocessor: at 128 two blocks of 256 threads still fit, so that one computes while the
# other waits at a barrier or for memory.
MAX_REGISTERS = 128

pytestmark = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not on PATH")


def ptxas_reports(source, output, architecture):
    """{kernel: (bytes spilled, registers)} for all kernels of one .cu file."""
    target = ["-gencode", f"arch=compute_{architecture},code=sm_{architecture}"]
    command = ["nvcc", "-O3", "-std=c++17", *target, "-Xcompiler", "-fPIC,-fvisibility=hidden", f"-I{CSRC}"]
    command += ["-Xptxas", "-v", "-c", str(source), "-o", str(output)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return parse(result.stderr)


def parse(text):
    reports = {}
    for section in text.split("Compiling entry function ")[1:]:
        kernel = re.match(r"'(\S+)'", section).group(1)
        stores, loads = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", section).groups()
        registers = re.search(r"Used (\d+) registers", section).group(1)
        reports[kernel] = (int(stores) + int(loads), int(registers))
    return reports


@pytest.mark.parametrize(
    ("source", "architecture"),
    [case for path in SOURCES for case in in_turn([(path, arch) for arch in ARCHITECTURES], path.name)],
    ids=lambda value: getattr(value, "name", value),
)
def test_no_spills_and_two_blocks_per_multiprocessor(source, architecture, tmp_path):
    reports = ptxas_reports(source, tmp_path / "kernel.o", architecture)
    assert reports
    for kernel, (spilled, registers) in reports.items():
        assert spilled == 0, f"{kernel} spills {spilled} bytes"
        assert registers <= MAX_REGISTERS, f"{kernel} uses {registers} registers"


def test_a_spill_is_seen(tmp_path):
    """64 live values under a cap of 32 registers: the check above must be able to fail."""
    source = tmp_path / "spills.cu"
    source.write_text(
        "__global__ void __launch_bounds__(1024, 2) spills(float* x) {\n"
        "  float v[64];\n"
        "#pragma unroll\n"
        "  for (int i = 0; i < 64; ++i) v[i] = x[i * 1024 + threadIdx.x];\n"
        "  __syncthreads();\n"
        "#pragma unroll\n"
        "  for (int i = 0; i < 64; ++i) x[i * 1024 + threadIdx.x] = v[63 - i] * v[i];\n"
        "}\n"
    )
    reports = ptxas_reports(source, tmp_path / "spills.o", "90")
    assert len(reports) == 1
    assert all(spilled > 0 for spilled, _ in reports.values()), reports
