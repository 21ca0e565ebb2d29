"""Building and installing: wheels that import from anywhere, and one clear sentence for what is missing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ("csrc", "fastgan", "kernels")


def run(command, cwd, **environment):
    """Runs a command without the variables that choose what is built, plus those given."""
    chosen = {"FASTGAN_CUDA", "CXX", "CUDA_HOME", "TORCH_CUDA_ARCH_LIST", "TRITON_INTERPRET"}
    inherited = {name: value for name, value in os.environ.items() if name not in chosen}
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env={**inherited, **environment}, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the source folder without anything that was built in it."""
    folder = tmp_path_factory.mktemp("source")
    for name in SHIPPED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.mark.slow
def test_sdist_then_wheel_works_from_any_directory(source, tmp_path):
    """Through the sdist, so that a file which MANIFEST.in forgets is missed."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path / "dist", source]
    build = run(command, tmp_path, FASTGAN_CUDA="0")
    assert build.returncode == 0, build.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    (sdist,) = (tmp_path / "dist").glob("*.tar.gz")
    assert sdist.stat().st_size < 600_000, "more than sources: they are 511 kB, what is built from them several MB"
    site = tmp_path / "site"
    install = run([sys.executable, "-m", "pip", "install", "--no-deps", "--target", site, wheel], tmp_path)
    assert install.returncode == 0, install.stderr
    code = (
        "import fastgan, fastgan.kernels, torch; from fastgan import native\n"
        "assert native.reason_missing is None\n"
        "with fastgan.backend('cpu'): fastgan.ops.bias_act(torch.ones(2, 3))\n"
        "print(fastgan.__file__, fastgan.kernels.__file__)"
    )
    result = run([sys.executable, "-c", code], "/", PYTHONPATH=str(site))
    assert result.returncode == 0, result.stderr
    assert result.stdout.count(str(site)) == 2, "imported from somewhere else"


def build_extension(source, tmp_path, **environment):
    command = [
        sys.executable,
        "setup.py",
        "build_ext",
        "--build-lib",
        tmp_path / "lib",
        "--build-temp",
        tmp_path / "temp",
    ]
    return run(command, source, **environment)


def test_without_a_compiler_one_sentence_says_what_to_install(source, tmp_path):
    result = build_extension(source, tmp_path, PATH=str(tmp_path))
    assert result.returncode != 0
    assert "fastgan: no C++ compiler found: install one (Debian/Ubuntu: apt-get install g++" in result.stderr
    assert "Traceback" not in result.stderr


def test_cuda_demanded_without_nvcc_is_an_error(source, tmp_path):
    code = (
        "import runpy, shutil, sys; which = shutil.which\n"
        "shutil.which = lambda name, **options: None if name == 'nvcc' else which(name, **options)\n"
        "sys.argv = ['setup.py', 'build_ext', '--build-lib', 'lib', '--build-temp', 'temp']\n"
        f"runpy.run_path({str(source / 'setup.py')!r}, run_name='__main__')"
    )
    result = run([sys.executable, "-c", code], source, FASTGAN_CUDA="1")
    assert result.returncode != 0
    assert "FASTGAN_CUDA=1 but nvcc was not found: install the CUDA toolkit" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("FASTGAN_CUDA", "yes", "FASTGAN_CUDA='yes' is not understood: expected auto, 0 or 1"),
        ("TORCH_CUDA_ARCH_LIST", "hopper", "TORCH_CUDA_ARCH_LIST item 'hopper' is not understood"),
    ],
)
def test_unknown_settings_are_named(source, tmp_path, variable, value, message):
    if variable == "TORCH_CUDA_ARCH_LIST" and shutil.which("nvcc") is None:
        pytest.skip("read only where nvcc is found")
    result = build_extension(source, tmp_path, **{variable: value})
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr
