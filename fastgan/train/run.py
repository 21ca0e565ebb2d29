"""A run: its folder, its start or its resumption, and what it came to."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fastgan.data import BUILT_IN, Images, load
from fastgan.errors import UserError, one_line
from fastgan.train.checkpoint import find_checkpoint, list_checkpoints, read_checkpoint, write_checkpoint
from fastgan.train.conditioning import UNCONDITIONAL
from fastgan.train.config import TrainConfig
from fastgan.train.devices import choose_device
from fastgan.train.guard import DivergedError
from fastgan.train.loop import train_until
from fastgan.train.progress import TrainingProgress
from fastgan.train.records import Records
from fastgan.train.signals import stop_on_signals
from fastgan.train.state import TrainState


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        run: its folder.
        step: steps taken in all.
        checkpoint: the newest one.
        signal: what stopped it before its last step: the number of SIGINT or SIGTERM; None if it is complete.
    """

    run: Path
    step: int
    checkpoint: Path
    signal: int | None


def train(config: TrainConfig, quiet: bool = False) -> TrainResult:
    """Trains a GAN from the start and leaves checkpoints, a log and pictures in `config.out`.

        from fastgan.train import TrainConfig, resume, train

        train(TrainConfig.for_preset("digits-dcgan", out="runs/digits", steps=2000, seed=1))
        resume("runs/digits", steps=4000)

    Ctrl-C (SIGINT) and SIGTERM finish the step, save and return. PyTorch's global random generators are left as they
    were found.

    Args:
        config: complete settings; `TrainConfig.for_preset` makes them.
        quiet: shows no progress.

    Raises:
        UserError: `out` is not empty or cannot be written, the data cannot be read, do not fit the preset or are fewer
            than a batch or without the classes that `conditional` needs, there is no such device, or the run diverges:
            a loss or gradient is no longer finite, or far too large. The last good checkpoint stays.
    """
    out = Path(config.out).expanduser()
    if config.data not in BUILT_IN and out.resolve().is_relative_to(Path(config.data).expanduser().resolve()):
        raise UserError(
            f"--out is {config.out!r}, inside --data; expected a folder elsewhere, as it will hold pictures"
        )
    try:
        if out.exists() and any(out.iterdir()):
            raise UserError(f"--out is {config.out!r}, which is not empty; expected a new folder, or --resume as well")
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(config.out, error) from error
    return _run(config, None, {}, quiet)


def resume(out: str | Path, quiet: bool = False, **changes: Any) -> TrainResult:
    """Continues the run in a folder from its newest checkpoint, with the settings that it was started with.

    On the CPU the result is bit for bit that of a run without the interruption, given the same version of PyTorch and
    the same number of threads.

    Args:
        out: the run's folder.
        quiet: shows no progress.
        changes: attributes of TrainConfig; only those in `fastgan.train.config.CHANGEABLE` may differ, such as steps.

    Raises:
        UserError: there is nothing to resume, the newest checkpoint is damaged, a change would make it another run, or
            as for `train`.
    """
    if Path(out).is_file():
        raise UserError(f"--out is {str(out)!r}, which is a file; expected the folder of the run to resume")
    file = find_checkpoint(out, "--out")
    tensors, header = read_checkpoint(file)
    try:
        stored = TrainConfig(**header["config"])
    except (TypeError, UserError) as error:
        raise UserError(f"{file} does not fit this version of fastgan: {error}") from error
    config = stored.resumed(**{**changes, "out": str(out)})
    if config.steps <= header["step"]:
        raise UserError(f"--steps is {config.steps}, but the run is at step {header['step']}; expected more")
    return _run(config, tensors, header, quiet)


def _run(config: TrainConfig, tensors: dict[str, Tensor] | None, header: dict[str, Any], quiet: bool) -> TrainResult:
    """Trains from `tensors`, or from the start where there are none."""
    out = Path(config.out).expanduser()
    device = choose_device(config.device)
    channels, (height, width) = config.image_shape
    images = load(config.data, height if height == width else (height, width), channels)
    if config.batch_size > len(images):
        raise UserError(
            f"--batch-size is {config.batch_size}, expected 1 to {len(images)}, the number of images in {images.name}"
        )
    if header and header["images"] != len(images):
        raise UserError(
            f"--data has {len(images)} images, but the run was started with {header['images']}; expected the same ones"
        )
    classes = _classes(config, images)
    if header and header.get("classes", {}) != classes:
        raise UserError(
            f"--data has the classes {classes}, but the run was started with {header['classes']}; expected the same"
        )
    if header and header.get("digest", images.digest) != images.digest:  # older checkpoints have none
        raise UserError(
            f"--data is {config.data!r}, whose files differ in name, size or content from those that the run was "
            "started with; expected the same ones"
        )
    state = TrainState(config, images, device)
    settings = dataclasses.asdict(config)
    checkpoints: list[Path] = []

    def save() -> None:
        about = {"step": state.step, "config": settings, "images": len(images), "classes": classes}
        about["digest"] = images.digest
        checkpoints.append(write_checkpoint(out, about, state.tensors(), config.keep))

    with stop_on_signals() as stop, state.layer_randomness():
        if tensors is not None:
            try:
                state.load_tensors(tensors)
            except (KeyError, RuntimeError, ValueError) as error:
                raise UserError(f"--out holds a checkpoint of another version: {one_line(error)}") from error
        try:
            with (
                Records(out, settings, state.step) as records,
                TrainingProgress(state.step, config.steps, config.batch_size, quiet) as progress,
            ):
                progress.note(images.summary())
                train_until(state, config, stop, records, progress, save)
        except DivergedError as error:
            kept = list_checkpoints(out)
            left = f"the last checkpoint is {kept[-1]}" if kept else "there is no checkpoint"
            raise UserError(f"{error}; {left}. Lower --lr, or choose another --optimizer or --penalty") from error
        except OSError as error:
            raise _unwritable(config.out, error) from error
    return TrainResult(out, state.step, checkpoints[-1], stop.signal if state.step < config.steps else None)


def _classes(config: TrainConfig, images: Images) -> dict[str, int]:
    """How many images each class has, in the order of the labels; empty for a run without classes.

    Raises:
        UserError: the run needs classes, and the data have none to tell apart.
    """
    if config.conditioning is UNCONDITIONAL:
        return {}
    if len(images.classes) < 2:
        found = f"the one class {images.classes[0]!r}" if images.classes else "no classes"
        raise UserError(
            f"--conditional is {config.conditional!r}, but --data {config.data!r} has {found}; expected 'digits', or a "
            "folder whose images all lie in subfolders, one for each class"
        )
    return dict(zip(images.classes, images.class_counts.tolist(), strict=True))


def _unwritable(out: str, error: OSError) -> UserError:
    return UserError(f"--out is {out!r}, which cannot be written: {error.strerror or error}")
