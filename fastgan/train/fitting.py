"""`fit`: trains a task that is given as an object."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastgan.errors import UserError
from fastgan.files import expanded
from fastgan.tasks import Task
from fastgan.train.folder import refuse_inside
from fastgan.train.run import Run
from fastgan.train.sections import checked, nearest
from fastgan.train.session import carry_out
from fastgan.train.settings import GameSettings, RunSettings
from fastgan.train.sources import sources_of


def fit(
    task: Task, data: Any, out: str | Path | None = None, steps: int = 10_000, *,
    resume: bool = False, quiet: bool = False, **settings: Any,
) -> Run:  # fmt: skip
    """Trains a task.

        run = fit(GAN(generator, critic, loss="hinge", latent_dim=64), data="photos/", out="runs/mine", steps=10_000)
        images = run.task.sample(64)

    Args:
        task: what is trained, a `fastgan.tasks.Task`.
        data: the name of a built-in set, the path of a folder, a `Source`, a tensor of samples, or for a task of
            several sets a dictionary of these by the names that it needs.
        out: the folder for checkpoints, log and pictures: new or empty, unless the run is resumed. None writes nothing.
        steps: of the game, from the start of the run.
        resume: goes on from the newest checkpoint in `out`; the task must be made of the same networks.
        quiet: shows no progress.
        settings: attributes of `GameSettings` and `RunSettings`, as `lr=1e-3`, `game="extragradient"`, `batch_size=32`.

    Returns:
        The run after its last step; its `task` has the trained networks and their averages.

    Raises:
        UserError: a setting is unknown or out of range or does not go with another, or as
            `fastgan.train.session.carry_out`.
    """
    game, run = split_settings({**settings, "steps": steps})
    made = Run(task, sources_of(data, task.needs), game, run)
    if out is None:
        if resume:
            raise UserError("resume is True, expected False: without out there is nothing to go on from")
        for _ in made:
            pass
        return made
    folder = expanded(out, "out")
    sets = data if isinstance(data, Mapping) else {"data": data}
    refuse_inside(folder, {str(name): str(of) for name, of in sets.items() if isinstance(of, (str, Path))})
    recipe = {"game": game.model_dump(mode="json"), "run": run.model_dump(mode="json")}
    return carry_out(made, folder, recipe, resume=resume, quiet=quiet).run


def split_settings(settings: Mapping[str, Any]) -> tuple[GameSettings, RunSettings]:
    """The sections of flat settings, in which the game's kind is called `game`.

    Raises:
        UserError: a setting is unknown or out of range.
    """
    of_game = {"game" if name == "kind" else name for name in GameSettings.model_fields}
    unknown = [name for name in settings if name not in of_game and name not in RunSettings.model_fields]
    if unknown:
        known = nearest(unknown[0], [*sorted(of_game), *RunSettings.model_fields])
        raise UserError(f"{unknown[0]} is no setting, expected {known}")
    game = {"kind" if name == "game" else name: value for name, value in settings.items() if name in of_game}
    run = {name: value for name, value in settings.items() if name in RunSettings.model_fields}
    return checked(GameSettings, game, "game."), checked(RunSettings, run, "run.")
