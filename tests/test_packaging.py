"""Building and installing: wheels that import from anywhere, and one clear sentence for what is missing."""

import os
import shutil
import subprocess
import sys
import tarfile
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


def test_sdist_has_every_source_and_nothing_that_was_built(source, tmp_path):
    command = [sys.executable, "-m", "build", "--no-isolation", "--sdist", "--outdir", tmp_path, source]
    build = run(command, tmp_path, FASTGAN_CUDA="0")
    assert build.returncode == 0, build.stderr
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    shipped = [path for folder in SHIPPED for path in (source / folder).rglob("*") if path.is_file()]
    assert len(shipped) > 300
    assert {str(path.relative_to(source)) for path in shipped} <= inside
    assert sdist.stat().st_size < 700_000, "more than sources: they are 609 kB, what is built from them several MB"


@pytest.mark.thorough  # it compiles everything
def test_a_wheel_from_the_sdist_works_from_any_directory_without_a_compiler(source, tmp_path):
    """Through the sdist, so that a file which MANIFEST.in forgets is missed; no program is found where it is used."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path / "dist", source]
    build = run(command, tmp_path, FASTGAN_CUDA="0")
    assert build.returncode == 0, build.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    site = tmp_path / "site"
    without_programs = {"PATH": str(tmp_path / "nothing")}
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", site, wheel]
    install = run(command, tmp_path, **without_programs)
    assert install.returncode == 0, install.stderr
    code = (
        "import fastgan, fastgan.kernels, torch; from fastgan import native\n"
        "assert native.reason_missing is None\n"
        "with fastgan.backend('cpu'): fastgan.ops.bias_act(torch.ones(2, 3))\n"
        "print(fastgan.__file__, fastgan.kernels.__file__)"
    )
    result = run([sys.executable, "-c", code], "/", PYTHONPATH=str(site), **without_programs)
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


def program(folder, name):
    """A program of this name in the folder that does nothing, and says so by its exit status."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("#!/bin/sh\nexit 1\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("cxx", "compiler"), [("g++", "g++"), ("ccache g++", "g++"), ("ccache", "ccache"), ("g++ -m64", "g++")]
)
def test_nvcc_is_given_the_compiler_and_not_what_launches_it(source, tmp_path, cxx, compiler):
    for name in ("g++", "ccache", "nvcc", "ninja"):
        program(tmp_path / "bin", name)
    build_extension(source, tmp_path, PATH=str(tmp_path / "bin"), CXX=cxx)
    lines = (tmp_path / "temp" / "build.ninja").read_text().splitlines()
    assert f"cxx = {cxx}" in lines
    by_nvcc = [line for line in lines if "$nvcc" in line]
    assert len(by_nvcc) == 2
    assert all(f"-ccbin {compiler} " in line for line in by_nvcc)


def test_a_launcher_without_its_compiler_is_no_compiler(source, tmp_path):
    for name in ("ccache", "ninja"):
        program(tmp_path / "bin", name)
    result = build_extension(source, tmp_path, PATH=str(tmp_path / "bin"), CXX="ccache g++")
    assert "fastgan: no C++ compiler found" in result.stderr


@pytest.mark.parametrize(
    ("pretend", "message"),
    [
        ("setuptools.__version__ = '68.1.2'", "setuptools 68.1.2 is too old: expected 77 or newer"),
        ("missing = 'ninja'", "ninja was not found: pip install ninja"),
        ("missing = 'pybind11'", "pybind11 was not found: pip install pybind11"),
    ],
)
def test_a_build_tool_that_is_missing_or_too_old_is_named(source, tmp_path, pretend, message):
    code = (
        "import importlib.util, runpy, shutil, sys, setuptools; missing = None\n"
        f"{pretend}\n"
        "find, which = importlib.util.find_spec, shutil.which\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == missing else find(name, *rest)\n"
        "shutil.which = lambda name, **options: None if name == missing else which(name, **options)\n"
        f"sys.argv = ['setup.py', 'build_ext', '--build-lib', {str(tmp_path)!r}, '--build-temp', {str(tmp_path)!r}]\n"
        f"runpy.run_path({str(source / 'setup.py')!r}, run_name='__main__')"
    )
    result = run([sys.executable, "-c", code], source, FASTGAN_CUDA="0")
    assert result.returncode != 0
    assert f"fastgan: {message}" in result.stderr
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
