"""The package as a whole: imports, no unlisted kernel, `fastgan info`."""

import importlib
import io
import os
import pkgutil
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

import fastgan
from fastgan import backends, native
from fastgan.registry import OPS
from tests.rotation import in_turn

ROOT = Path(__file__).resolve().parent.parent
NOT_OPS = {"isa"}  # csrc/ files that any op uses
NOT_TRITON_OPS = {"__init__", "launch", "attention_tiles", "attention_grad2"}  # attention's kernels are three files


def run(code: str, **environment: str) -> str:
    """Runs Python code in a fresh process, outside the source folder."""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd="/", env={**os.environ, **environment}
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_import_is_lean_and_starts_no_cuda_context():
    heavy = [
        "triton",
        "rich",
        "typer",
        "sklearn",
        "scipy",
        "matplotlib",
        "tensorboard",
        "torchmetrics",
        "PIL",
        "pydantic",
        "yaml",
    ]
    code = (
        "import sys, torch; before = set(sys.modules)\n"
        "import fastgan\n"
        f"print([m for m in {heavy} if m in sys.modules and m not in before], torch.cuda.is_initialized())"
    )
    assert run(code) == "[] False"


def packages(package):
    """The package and every package inside of it."""
    yield package
    for found in pkgutil.iter_modules(package.__path__):
        if found.ispkg:
            yield from packages(importlib.import_module(f"{package.__name__}.{found.name}"))


def test_no_name_is_both_a_module_and_something_else():
    """`from package import name` may give the function although `package.name` is imported as a module.

    Ops are the exception: `fastgan.ops.bias_act` is the function, and its file or folder has the same stem.
    """
    for package in packages(fastgan):
        if package is fastgan.ops:
            continue
        for found in pkgutil.iter_modules(package.__path__):
            if hasattr(package, found.name):
                module = getattr(package, found.name)
                assert isinstance(module, types.ModuleType), f"{package.__name__}.{found.name} is {module!r} as well"


def test_kernels_import_from_anywhere():
    pytest.importorskip("triton", reason="triton is not installed")
    assert run("import fastgan.kernels.bias_act as k; print(callable(k.forward))") == "True"


@pytest.mark.parametrize(("folder", "pattern", "backend"), [("kernels", "*.py", "triton"), ("csrc", "*.cpp", "cpu"),
                                                            ("csrc", "*.cu", "cuda")])  # fmt: skip
def test_every_kernel_file_is_listed_and_every_listed_kernel_has_a_file(folder, pattern, backend):
    shared = NOT_OPS if folder == "csrc" else NOT_TRITON_OPS
    files = {path.stem for path in (ROOT / folder).glob(pattern)} - shared
    assert files == {spec.name for spec in OPS.values() if backend in set(spec.backends) - set(spec.composed)}


@pytest.mark.parametrize("name", sorted(OPS))
def test_an_op_has_its_stem_on_every_floor(name):
    folder = ROOT / "fastgan" / "ops" / name
    assert all((folder / f"{file}.py").exists() for file in ("__init__", "reference", "spec"))
    # The operators and derivatives of these two are `convolution`'s.
    own = {file for file in ("autograd", "backends") if (folder / f"{file}.py").exists()}
    assert own == (set() if name in ("conv3x3", "conv_stride2") else {"autograd", "backends"})
    assert (ROOT / "tests" / "ops" / f"test_{name}.py").exists()
    assert OPS[name].bench, "no benchmark shapes"


def test_every_folder_with_a_spec_is_registered():
    assert {path.parent.name for path in (ROOT / "fastgan" / "ops").glob("*/spec.py")} == set(OPS)


def test_every_cpu_kernel_has_its_bindings():
    kernels = {path.stem for path in (ROOT / "csrc").glob("*.cpp")} - NOT_OPS
    assert {path.stem for path in (ROOT / "csrc" / "bindings").glob("*.cpp")} - {"module"} == kernels


def test_triton_activation_codes_are_the_table_of_the_ops():
    pytest.importorskip("triton", reason="triton is not installed")
    from fastgan.kernels.bias_act import CODES
    from fastgan.ops._common.activations import ACTIVATIONS

    assert {name: row.code for name, row in ACTIVATIONS.items()} == CODES
    header = (ROOT / "csrc" / "bias_act.h").read_text()
    in_c = re.search(r"enum class Act : int \{([^}]*)\}", header).group(1).replace(",", " ").split()
    assert {name: code for code, name in enumerate(in_c)} == CODES


def test_the_extension_is_built_and_links_no_torch():
    assert native.reason_missing is None
    libraries = subprocess.run(["ldd", native.extension().__file__], capture_output=True, text=True).stdout
    assert "libtorch" not in libraries
    assert "libc10" not in libraries


@pytest.mark.skipif(not native.extension().has_cuda, reason="built without nvcc")
def test_a_cuda_build_needs_no_cuda_library_to_load():
    libraries = subprocess.run(["ldd", native.extension().__file__], capture_output=True, text=True).stdout
    assert "libcuda" not in libraries


@pytest.mark.parametrize("instruction_set", in_turn(["baseline", "avx2"], "instruction set"))
def test_older_processors_get_the_same_results(instruction_set):
    """The accuracy tests again, on the kernels compiled for processors without this one's vector instructions."""
    if native.extension().instruction_set == "baseline":
        pytest.skip("this processor has only the baseline")
    chosen = run("import torch; from fastgan import _C; print(_C.instruction_set)", FASTGAN_ISA=instruction_set)
    assert chosen == instruction_set
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not gpu", "tests/ops/test_accuracy.py"],
        cwd=ROOT, env={**os.environ, "FASTGAN_ISA": instruction_set}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout


def test_backend_names_are_checked():
    with pytest.raises(ValueError, match="backend is 'gpu', expected one of auto, reference, cpu, triton, cuda"):
        backends.backend("gpu").__enter__()
    result = subprocess.run(
        [sys.executable, "-c", "import fastgan"], env={**os.environ, "FASTGAN_BACKEND": "fast"}, capture_output=True
    )
    assert b"FASTGAN_BACKEND is 'fast', expected one of" in result.stderr


def test_info_has_a_row_for_every_op_and_backend():
    pytest.importorskip("rich", reason="rich is not installed")
    from rich.console import Console

    from fastgan.cli.info import report

    console = Console(record=True, width=160, file=io.StringIO())
    report(console=console)
    text = console.export_text()
    assert torch.__version__ in text
    for spec in OPS.values():
        assert spec.name in text
        assert all(re.search(rf"│ {name} ", text) for name in spec.backends)
    rows = [line for line in text.splitlines() if line.startswith("│")]
    assert len(rows) == sum(1 + len(spec.backends) for spec in OPS.values())
