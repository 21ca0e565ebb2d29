"""Build `fastgan._C`: C++ for the CPU, CUDA C++ when nvcc is found, pybind11 around both; never torch.

Tensors cross the binding as addresses, so neither the build nor the binary needs torch: `pip install` takes seconds,
works in pip's isolated build environment, and no torch upgrade can break a symbol.

Environment: FASTGAN_CUDA=auto|0|1, CUDA_HOME, TORCH_CUDA_ARCH_LIST (e.g. "8.0;9.0+PTX"), MAX_JOBS, CXX.
"""

import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import setuptools
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
CSRC = ROOT / "csrc"

# -fopenmp compiles the pragmas; the OpenMP runtime itself is not linked, because importing torch makes torch's own
# visible and both must share one thread pool. -z now turns a missing runtime into an ImportError instead of a crash.
CXX_FLAGS = (
    "-std=c++17 -O3 -fPIC -fvisibility=hidden -fopenmp -fno-math-errno -fno-trapping-math "
    "-ffp-contract=fast -Wall -Wextra -Wno-unknown-pragmas -Wno-psabi"
)
LINK_FLAGS = ["-Wl,-z,now", "-Wl,--as-needed"]
ISA_FLAGS = {
    "baseline": "",
    "avx2": "-mavx2 -mfma -mf16c",
    "avx512": "-mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c -mprefer-vector-width=512",
}
DEFAULT_CUDA_ARCHITECTURES = "8.0;9.0+PTX"
LEAST_SETUPTOOLS = 77  # the first that reads pyproject.toml's `license = "MIT"`
LAUNCHERS = ("ccache", "sccache", "distcc", "icecc")


def check_build_tools():
    """pip installs them unless told not to (--no-build-isolation): then one sentence says which is missing."""
    if int(setuptools.__version__.split(".")[0]) < LEAST_SETUPTOOLS:
        sys.exit(
            f"fastgan: setuptools {setuptools.__version__} is too old: expected {LEAST_SETUPTOOLS} or newer: "
            f"pip install 'setuptools>={LEAST_SETUPTOOLS}', or build without --no-build-isolation."
        )


def require(module):
    """Stops with one sentence where a build tool is not installed."""
    if importlib.util.find_spec(module) is None:
        sys.exit(f"fastgan: {module} was not found: pip install {module}, or build without --no-build-isolation.")


def find_cxx():
    """The C++ compiler, or one sentence that says what to install."""
    for candidate in (os.environ.get("CXX"), "g++", "clang++", "c++"):
        if candidate and shutil.which(shlex.split(candidate)[0]) and shutil.which(compiler_of(candidate)):
            return candidate
    sys.exit(
        "fastgan: no C++ compiler found: install one (Debian/Ubuntu: apt-get install g++, "
        "Fedora: dnf install gcc-c++, macOS: xcode-select --install) or set CXX to its path."
    )


def compiler_of(cxx):
    """The compiler of a CXX that may begin with a launcher and end with options: g++ of "ccache g++ -m64"."""
    words = shlex.split(cxx)
    launched = Path(words[0]).name in LAUNCHERS and len(words) > 1
    return words[1] if launched else words[0]


def find_nvcc():
    """The path of nvcc, or None; FASTGAN_CUDA=0 looks for none and FASTGAN_CUDA=1 insists on one."""
    wish = os.environ.get("FASTGAN_CUDA", "auto")
    if wish not in ("auto", "0", "1"):
        sys.exit(f"fastgan: FASTGAN_CUDA={wish!r} is not understood: expected auto, 0 or 1.")
    if wish == "0":
        return None
    homes = [os.environ[key] for key in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(key)]
    places = [str(Path(home) / "bin") for home in homes] + [os.environ.get("PATH", ""), "/usr/local/cuda/bin"]
    nvcc = shutil.which("nvcc", path=os.pathsep.join(places))
    if nvcc is None and wish == "1":
        sys.exit(
            "fastgan: FASTGAN_CUDA=1 but nvcc was not found: install the CUDA toolkit, or set CUDA_HOME to its "
            "folder, or use FASTGAN_CUDA=auto to build for the CPU (Triton then serves the GPU)."
        )
    return nvcc


def gencode_flags():
    """nvcc's -gencode flags for TORCH_CUDA_ARCH_LIST, whose items look like 8.0, 9.0a or 9.0+PTX."""
    flags = []
    wish = os.environ.get("TORCH_CUDA_ARCH_LIST") or DEFAULT_CUDA_ARCHITECTURES
    for item in wish.replace(";", " ").split():
        number = item.removesuffix("+PTX").replace(".", "")
        if not number.rstrip("af").isdigit():
            sys.exit(f"fastgan: TORCH_CUDA_ARCH_LIST item {item!r} is not understood: expected e.g. 8.0 or 9.0+PTX.")
        flags.append(f"-gencode arch=compute_{number},code=sm_{number}")
        if item.endswith("+PTX"):
            flags.append(f"-gencode arch=compute_{number},code=compute_{number}")
    return " ".join(flags)


def instruction_sets():
    """The instruction sets to compile every CPU kernel for; the one used is chosen at run time (csrc/isa.h)."""
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    return ISA_FLAGS if is_x86 else {"baseline": ""}


class NinjaBuild(build_ext):
    """Compiles all sources of the extension in parallel with ninja."""

    def build_extension(self, ext):
        require("pybind11")
        ninja = shutil.which("ninja")
        if ninja is None:
            require("ninja")
        import pybind11

        output = Path(self.get_ext_fullpath(ext.name)).resolve()
        folder = Path(self.build_temp).resolve()
        output.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        include = f"-I{CSRC} -I{pybind11.get_include()} -I{self.python_include()}"
        (folder / "build.ninja").write_text(ninja_file(output, include, find_cxx(), find_nvcc()))
        command = [ninja] if ninja else [sys.executable, "-m", "ninja"]
        if os.environ.get("MAX_JOBS"):
            command += ["-j", os.environ["MAX_JOBS"]]
        if subprocess.run([*command, "-C", str(folder)], check=False).returncode != 0:
            sys.exit(
                "fastgan: compiling the extension failed; the compiler's message is above. "
                "(FASTGAN_CUDA=0 leaves the CUDA sources out.)"
            )

    @staticmethod
    def python_include():
        import sysconfig

        return sysconfig.get_paths()["include"]

    def get_source_files(self):
        return [str(path.relative_to(ROOT)) for path in sorted(CSRC.rglob("*")) if path.is_file()]


def ninja_file(output, include, cxx, nvcc):
    """The text of build.ninja: one edge for each (source, instruction set), one for each .cu, one link."""
    with_cuda = nvcc is not None
    lines = [
        f"cxx = {cxx}",
        f"flags = {CXX_FLAGS} {include} -DFASTGAN_WITH_CUDA={int(with_cuda)}",
        "rule cxx",
        "  command = $cxx $flags $extra -MMD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "  description = c++ $in $extra",
    ]
    objects = []
    for source in sorted(CSRC.glob("bindings/*.cpp")):
        objects.append(f"bindings.{source.stem}.o")
        lines.append(f"build {objects[-1]}: cxx {source}")
    for source in sorted(CSRC.glob("*.cpp")):
        # isa.cpp runs on any processor, as the bindings do; every other .cpp is a kernel file.
        variants = {"": ""} if source.stem == "isa" else instruction_sets()
        for isa, isa_flags in variants.items():
            objects.append(f"{source.stem}{'.' + isa if isa else ''}.o")
            extra = f"{isa_flags} -DFASTGAN_ISA={isa}" if isa else ""
            lines += [f"build {objects[-1]}: cxx {source}", f"  extra = {extra}"]
    if with_cuda:
        lines += [
            f"nvcc = {nvcc}",
            "rule nvcc",
            f"  command = $nvcc -O3 -std=c++17 {gencode_flags()} -Xcompiler -fPIC,-fvisibility=hidden"
            f" -ccbin {compiler_of(cxx)} -I{CSRC} -MD -MF $out.d -c $in -o $out",
            "  depfile = $out.d",
            "  deps = gcc",
            "  description = nvcc $in",
        ]
        for source in sorted(CSRC.glob("*.cu")):
            objects.append(f"{source.stem}.cuda.o")
            lines.append(f"build {objects[-1]}: nvcc {source}")
        # nvcc as the linker finds its own static runtime.
        link_flags = " ".join(flag.replace("-Wl,", "-Xlinker ") for flag in LINK_FLAGS)
        link = f"$nvcc -shared -cudart static -ccbin {compiler_of(cxx)} $in -o $out {link_flags}"
    else:
        link = f"$cxx -shared $in -o $out {' '.join(LINK_FLAGS)}"
    lines += [
        "rule link",
        f"  command = {link}",
        "  description = link $out",
        f"build {output}: link {' '.join(objects)}",
        "",
    ]
    return "\n".join(lines)


check_build_tools()
setup(
    # The latter from kernels/, and from a folder whose package is not to be below fastgan, which imports PyTorch.
    packages=[
        *find_packages(include=["fastgan", "fastgan.*"], exclude=["fastgan.cli.command"]),
        "fastgan.kernels",
        "fastgan_command",
    ],
    ext_modules=[Extension("fastgan._C", sources=[])],
    cmdclass={"build_ext": NinjaBuild},
)
