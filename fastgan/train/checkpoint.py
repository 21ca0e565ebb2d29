"""One checkpoint is one safetensors file: every tensor, and a JSON header with the settings. Never pickle.

A checkpoint appears whole or not at all: it is written under a temporary name, forced to the disk and renamed. A
digest over names, types, shapes and bytes tells a damaged one from a good one.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fastgan.errors import UserError
from fastgan.files import atomic_file, expanded, remove_partial

FORMAT = "fastgan checkpoint 2"
FOLDER = "checkpoints"
_NAME = re.compile(r"step-(\d{8,})\.safetensors")


def write_checkpoint(run: Path, header: dict[str, Any], tensors: dict[str, Tensor], keep: int) -> Path:
    """Writes `run/checkpoints/step-XXXXXXXX.safetensors` and deletes all but the newest `keep`.

    Args:
        run: the run's folder.
        header: JSON values: `step`, which names the file, and whatever else should travel with the tensors.
        tensors: any dtypes and devices.
        keep: at least 1.

    Raises:
        UserError: the file cannot be written.
    """
    on_cpu = _apart({name: value.detach().cpu().contiguous() for name, value in tensors.items()})
    header = {**header, "format": FORMAT}
    header["sha256"] = _digest(on_cpu, header)
    path = run / FOLDER / f"step-{header['step']:08d}.safetensors"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            file.write(save(on_cpu, {"fastgan": json.dumps(header)}))
        for old in list_checkpoints(run)[:-keep]:
            old.unlink()
        remove_partial(path.parent)
    except OSError as error:
        raise UserError(f"cannot write the checkpoint {path}: {error.strerror}") from error
    return path


def list_checkpoints(run: Path) -> list[Path]:
    """The run's checkpoints, oldest first; half-written ones do not count."""
    folder = run / FOLDER
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The step in a checkpoint's name."""
    return int(checkpoint.stem.removeprefix("step-"))


def find_checkpoint(path: str | Path, argument: str) -> Path:
    """The checkpoint that a path stands for: itself, or the newest one of a run's folder.

    Raises:
        UserError: there is none; the message starts with `argument`.
    """
    given = expanded(path, argument)
    if given.is_file():
        return given
    if not given.is_dir():
        raise UserError(f"{argument} is {str(path)!r}, which does not exist; expected a run's folder or a checkpoint")
    found = list_checkpoints(given)
    if not found:
        raise UserError(f"{argument} is {str(path)!r}, which holds no checkpoint; expected the --out of a training run")
    return found[-1]


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a checkpoint and the header that it was written with.

    Raises:
        UserError: the file is damaged, cut off, or not a checkpoint of this version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("fastgan", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path} is not a whole safetensors file ({error}); expected a fastgan checkpoint, "
            "and the run's older ones may still be good"
        ) from error
    if header.get("format") != FORMAT:
        raise UserError(f"{path} says format {header.get('format')!r}, expected {FORMAT!r}")
    if header.pop("sha256", None) != _digest(tensors, header):
        raise UserError(f"{path} is damaged: it does not match its checksum; the run's older ones may still be good")
    return tensors, header


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, those that share memory, as tied weights do, in memory of their own: safetensors takes no others."""
    places: set[int] = set()
    found = {}
    for name, value in tensors.items():
        place = value.untyped_storage()._cdata
        found[name] = value.clone() if place in places else value
        places.add(place)
    return found


def _digest(tensors: dict[str, Tensor], header: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
