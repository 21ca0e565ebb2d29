"""The conditions of a measurement: device, versions, compiler flags, commit and load."""

import ast
import datetime
import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import fastgan
from fastgan import native

ROOT = Path(__file__).resolve().parent.parent
WRITTEN_BY_US = ("benchmarks/results", "docs/images", "docs/benchmarks.md", "README.md")
"""Changes of these do not make a measurement dirty."""


def collect(device: torch.device) -> dict[str, Any]:
    """Everything as plain JSON values; None where it cannot be found out."""
    name = device_name(device)
    return {
        "device": name,
        "device_type": device.type,
        "slug": slug(name),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "triton": _version("triton"),
            "fastgan": fastgan.__version__,
            "cuda": torch.version.cuda,
            "system": f"{platform.system()} {platform.machine()}",
        },
        "compiler_flags": compiler_flags(),
        "instruction_set": getattr(native.extension(), "instruction_set", None) if not native.reason_missing else None,
        "torch_instruction_set": torch.backends.cpu.get_cpu_capability(),
        "commit": _git("rev-parse", "HEAD"),
        "dirty": is_dirty(),
    }


def device_name(device: torch.device) -> str:
    """E.g. "NVIDIA H200", or "AMD EPYC, 2 cores": a CPU's speed depends on how many of its cores this process has."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
        model = found.group(1).strip() if found else model
    return f"{model}, {cores()} cores"


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def slug(name: str) -> str:
    """The file name of a device: lower case, words joined by hyphens."""
    name = re.sub(r"\((r|tm)\)", "", name.lower())
    return re.sub(r"[^a-z0-9.]+", "-", name).strip("-")


def compiler_flags() -> str | None:
    """CXX_FLAGS of setup.py, which cannot be imported: it builds."""
    for node in ast.walk(ast.parse((ROOT / "setup.py").read_text())):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "CXX_FLAGS":
            return ast.literal_eval(node.value)
    return None


def is_dirty() -> bool | None:
    """Whether tracked files differ from the commit, other than what the benchmarks themselves write."""
    excluded = [f":(exclude){path}" for path in WRITTEN_BY_US]
    status = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *excluded)
    return None if status is None else bool(status)


def busy(environment: dict[str, Any]) -> bool:
    """Whether something else was running when the measurement began."""
    load = environment["load_average"]
    return load is not None and load > 0.5 * environment["cores"]


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
