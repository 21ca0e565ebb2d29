"""A run's folder: whether a run may begin there, and from which checkpoint it goes on."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fastgan.data import BUILT_IN, MIXTURES
from fastgan.errors import UserError
from fastgan.files import TEMPORARY, atomic_file, expanded, remove_partial
from fastgan.train.checkpoint import FOLDER, list_checkpoints, step_of
from fastgan.train.lock import NAME as LOCK
from fastgan.train.records import LOG, SECONDS, split_lines

RECIPE, ASIDE = "recipe.yaml", "aside"


def open_folder(out: Path, resume: bool) -> None:
    """Makes the folder, or sees that a run may begin or go on there.

    Raises:
        UserError: it holds a run that is not to be resumed, or something else; or it cannot be written.
    """
    try:
        if resume and not out.is_dir():
            raise UserError(f"--out is {str(out)!r}, which {_is_no_folder(out)}; expected the folder of a run")
        out.mkdir(parents=True, exist_ok=True)
        # One that was killed before its first checkpoint is simply started anew.
        others = [path for path in out.iterdir() if path.name != LOCK and path.suffix != TEMPORARY]
        if others and not (out / RECIPE).exists() and not list_checkpoints(out):
            raise UserError(f"--out is {str(out)!r}, which is not empty and holds no run; expected a new folder")
    except OSError as error:
        raise unwritable(out, error) from error
    found = list_checkpoints(out)
    if found and not resume:
        raise UserError(
            f"--out is {str(out)!r}, which holds a run at step {step_of(found[-1])}; expected a new folder, or "
            "--resume as well"
        )


def newest(out: Path, start: Path | None) -> Path | None:
    """The checkpoint that a run goes on from; None where there is none yet.

    Args:
        out: the run's folder.
        start: a checkpoint of it; None for the newest.

    Raises:
        UserError: `start` is no checkpoint of this run.
    """
    found = list_checkpoints(out)
    if start is None:
        return found[-1] if found else None
    chosen = next((path for path in found if start.name == path.name and start.resolve() == path.resolve()), None)
    if chosen is None:
        known = ", ".join(str(path) for path in found) or "none there is"
        raise UserError(f"--from is {str(start)!r}, expected a checkpoint of the run in {str(out)!r}: {known}")
    return chosen


def set_aside(out: Path, step: int) -> None:
    """Moves checkpoints and log lines of later steps into a folder of their own below `aside/`."""
    newer = [path for path in list_checkpoints(out) if step_of(path) > step]
    lines = {name: split_lines(out / name, step) for name in (LOG, SECONDS)}
    if not newer and not any(later for _, later in lines.values()):
        return
    number = 1
    while (out / ASIDE / f"{number:03d}").exists():
        number += 1
    place = out / ASIDE / f"{number:03d}"
    (place / FOLDER).mkdir(parents=True)
    for name, (_, later) in lines.items():
        with atomic_file(place / name) as file:
            file.writelines(later)
    for path in newer:
        shutil.move(path, place / FOLDER / path.name)


def refuse_inside(out: Path, data: Mapping[str, str]) -> None:
    """Raises UserError where pictures would be written into the data.

    Args:
        out: the run's folder.
        data: by the names of their settings, what may be the paths of folders.
    """
    for name, path in data.items():
        folder = expanded(path, name)
        if path not in {**BUILT_IN, **MIXTURES} and folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
            raise UserError(
                f"--out is {str(out)!r}, inside {name}; expected a folder elsewhere, as it will hold pictures"
            )


def write_recipe(out: Path, recipe: dict[str, Any]) -> None:
    """Keeps the resolved settings of a run as recipe.yaml."""
    remove_partial(out)
    with atomic_file(out / RECIPE) as file:
        file.write(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=120).encode())


def unwritable(out: Path, error: OSError) -> UserError:
    """The error for a folder that cannot be written."""
    return UserError(f"--out is {str(out)!r}, which cannot be written: {error.strerror or error}")


def _is_no_folder(out: Path) -> str:
    return "is a file" if out.is_file() else "does not exist"
