"""Compiles CUDA C++ for the host emulator and calls it.

    kernels = emulate('#include "bias_act.cu"', ["fastgan::cuda::bias_act"])
    kernels.set_order("random", seed=7)
    kernels.bias_act(x, y, x.numel(), ctypes.c_int(0), None)

The functions return `fastgan::Error`; an error is raised as EmulatorError. Tensors are passed as addresses and
Python's integers as int64_t; anything else is a ctypes value.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
CSRC = HERE.parent.parent / "csrc"
# -fno-gnu-unique: libraries that emulate the same template must not share its static (__shared__) variables.
# -ffp-contract=off: the same bits on a host with fused multiply-add as on one without.
FLAGS = ["-std=c++17", "-O1", "-fPIC", "-shared", "-fvisibility=hidden", "-fno-gnu-unique", "-ffp-contract=off"]
FLAGS += ["-w", "-DFASTGAN_SIMT_EMULATOR"]
ORDERS = {"forward": 0, "reverse": 1, "random": 2}


class EmulatorError(RuntimeError):
    """What the entry point returned instead of nullptr."""


class Emulated:
    """A library of emulated kernels; each exported function is an attribute."""

    def __init__(self, library, names):
        self._library = ctypes.CDLL(str(library))
        for name in names:
            address = ctypes.c_void_p.in_dll(self._library, f"export_{name}").value
            setattr(self, name, _checked(ctypes.CFUNCTYPE(ctypes.c_char_p)(address)))

    def set_order(self, order, seed=1):
        """The order in which threads and blocks take their turns: "forward", "reverse" or "random"."""
        self._library.simt_set_order(ctypes.c_int(ORDERS[order]), ctypes.c_uint64(seed))


def _checked(function):
    def call(*arguments):
        error = function(*(_convert(argument) for argument in arguments))
        if error is not None:
            raise EmulatorError(error.decode())

    return call


def _convert(argument):
    if isinstance(argument, torch.Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    if isinstance(argument, int):
        return ctypes.c_int64(argument)
    return argument


def unavailable():
    """Why nothing can be emulated here, or None."""
    if platform.system() != "Linux":
        return "the emulator needs Linux: it finds the kernels' shared memory through dl_iterate_phdr"
    return None if shutil.which("g++") else "the emulator needs g++ on PATH"


def emulate(source, functions, extra_flags=()):
    """Compiles C++ text (usually one #include of a .cu) and exports `functions`, given by their qualified names."""
    names = [function.rpartition("::")[2] for function in functions]
    exports = "\n".join(
        f'extern "C" __attribute__((visibility("default"))) auto* export_{name} = &{function};'
        for name, function in zip(names, functions, strict=True)
    )
    return Emulated(_compile(f"{source}\n{exports}\n", [*FLAGS, *extra_flags]), names)


def _compile(text, flags):
    headers = [path for folder in (CSRC, HERE) for path in sorted(folder.iterdir()) if path.is_file()]
    compiler = subprocess.run(["g++", "--version"], capture_output=True, check=True).stdout
    digest = hashlib.sha256(compiler + repr((text, flags)).encode())
    for header in headers:
        if header.suffix in (".h", ".cuh", ".cu", ".cpp"):
            digest.update(header.read_bytes())
    library = _cache() / f"{digest.hexdigest()[:32]}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            shim, built = Path(folder) / "shim.cpp", Path(folder) / "shim.so"
            shim.write_text(text)
            sources = ["-x", "c++", str(shim), str(HERE / "simt_emulator.cpp")]
            command = ["g++", *flags, f"-I{CSRC}", f"-I{HERE}", *sources, "-o", str(built)]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode != 0:
                raise EmulatorError(f"g++ could not compile the kernel for the emulator:\n{result.stderr}")
            built.replace(library)  # atomic: another test process may be building the same
    return library


def _cache():
    """A folder of this user's alone, because what lies in it is loaded as code."""
    folder = Path(tempfile.gettempdir()) / f"fastgan-emulator-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if folder.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise EmulatorError(f"{folder} is not a private folder of this user: remove it")
    return folder
