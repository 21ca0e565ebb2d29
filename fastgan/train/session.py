"""Carries a run out in a folder: lock, resumption, records, checkpoints, and what stops it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastgan.errors import UserError, one_line
from fastgan.tasks import Source
from fastgan.train.checkpoint import list_checkpoints, read_checkpoint, write_checkpoint
from fastgan.train.folder import newest, open_folder, set_aside, unwritable, write_recipe
from fastgan.train.guard import DivergedError
from fastgan.train.lock import locked
from fastgan.train.loop import train_until
from fastgan.train.progress import TrainingProgress
from fastgan.train.records import Records
from fastgan.train.run import Run
from fastgan.train.settings import CHANGEABLE
from fastgan.train.signals import StopRequest, stop_on_signals


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        run: as it is now.
        folder: where it was carried out.
        checkpoint: the newest one.
        signal: what stopped it before its last step: the number of SIGINT or SIGTERM; None if it is complete.
    """

    run: Run
    folder: Path
    checkpoint: Path
    signal: int | None


def carry_out(
    run: Run, out: Path, recipe: dict[str, Any], *, resume: bool = False, start: Path | None = None, quiet: bool = False
) -> Outcome:
    """Trains up to `run.settings.steps` and leaves checkpoints, a log, pictures and the recipe in a folder.

    Ctrl-C (SIGINT) and SIGTERM finish the step, save and return.

    Args:
        run: newly made.
        out: the folder.
        recipe: the resolved settings, JSON values, with the sections `game` and `run` at least.
        resume: whether the run in the folder is continued; where it has no checkpoint yet, it is started anew.
        start: the checkpoint that it goes on from; None for the newest.
        quiet: shows no progress.

    Raises:
        UserError: the folder holds another run or is not writable, another process trains there, the run cannot be
            resumed with these settings, data or networks, or it diverges. The last good checkpoint stays.
    """
    open_folder(out, resume)
    facts = {name: facts_of(source) for name, source in run.sources.items()}
    try:
        with stop_on_signals() as stop, locked(out):
            open_folder(out, resume)  # another process may have been there since
            file = newest(out, start) if resume else None
            if file is not None:
                _load(run, file, recipe, facts)
            if run.settings.steps <= run.step:
                raise UserError(f"run.steps is {run.settings.steps}, but the run is at step {run.step}; expected more")
            if file is None or start is not None:
                set_aside(out, run.step)
            saved = _train(run, out, {"recipe": recipe, "sources": facts}, stop, quiet)
    except DivergedError as error:
        kept = list_checkpoints(out)
        left = f"the last checkpoint is {kept[-1]}" if kept else "there is no checkpoint"
        raise UserError(f"{error}; {left}. Lower game.lr, or choose another game.kind or task.penalty") from error
    except OSError as error:
        raise unwritable(out, error) from error
    return Outcome(run, out, saved, stop.signal if run.step < run.settings.steps else None)


def _train(run: Run, out: Path, header: dict[str, Any], stop: StopRequest, quiet: bool) -> Path:
    """Trains to the end or to a request to stop; the newest checkpoint."""
    saved: list[Path] = []

    def save() -> None:
        saved.append(write_checkpoint(out, {"step": run.step, **header}, run.tensors(), run.settings.keep))

    write_recipe(out, header["recipe"])
    with (
        Records(out, run.step) as records,
        TrainingProgress(run.step, run.settings.steps, run.settings.batch_size, quiet) as progress,
    ):
        for source in run.sources.values():
            progress.note(source.summary())
        train_until(run, stop, records, progress, save)
    return saved[-1]


def facts_of(source: Source) -> dict[str, Any]:
    """What a run needs to know of its data to be resumed, and to be sampled from without them."""
    classes = dict(zip(source.classes, source.class_counts.tolist(), strict=True))
    return {"samples": len(source), "classes": classes, "digest": source.digest}


def _load(run: Run, file: Path, recipe: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    tensors, header = read_checkpoint(file)
    before = header["sources"]
    if before.keys() != facts.keys():
        raise UserError(f"the data are {', '.join(facts)}, but the run was started with {', '.join(before)}")
    # The same files may lie elsewhere by now.
    moved = {name for name, of in facts.items() if of["digest"] and of["digest"] == before[name]["digest"]}
    check_changes(header["recipe"], recipe, {f"data.{name}" for name in moved})
    for name, now in facts.items():
        then = before[name]
        what = run.sources[name].name
        if now["samples"] != then["samples"]:
            raise UserError(
                f"{what} has {now['samples']} samples, but the run was started with {then['samples']}; expected the "
                "same ones"
            )
        if now["classes"] != then["classes"]:
            raise UserError(
                f"{what} has the classes {now['classes']}, but the run was started with {then['classes']}; expected "
                "the same"
            )
        if now["digest"] != then["digest"]:
            raise UserError(
                f"the files of {what} differ in name, size or content from those that the run was started with; "
                "expected the same ones"
            )
    try:
        run.load(tensors)
    except (KeyError, RuntimeError, ValueError) as error:
        raise UserError(f"{file} does not fit these networks: {one_line(error)}") from error


def check_changes(
    before: Mapping[str, Any], now: Mapping[str, Any], free: Collection[str] = (), place: str = ""
) -> None:
    """Raises UserError where two recipes differ in more than a resumed run may change.

    Args:
        before, now: the resolved settings, or those of a section.
        free: settings that may change besides, as `data.image`.
        place: of the section, with a dot at its end.
    """
    for name in {**before, **now}:
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            check_changes(old, new, free, f"{place}{name}.")
        elif old != new and f"{place}{name}" not in free and not (place == "run." and name in CHANGEABLE):
            raise UserError(
                f"{place}{name} is {new!r}, but the run was started with {old!r}; expected the same, or a new --out "
                "without --resume"
            )
