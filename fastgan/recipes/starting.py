"""Starts what a recipe says, or goes on with it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from fastgan.errors import UserError, one_line
from fastgan.files import expanded
from fastgan.recipes.recipe import NOTHING, UNREADABLE, PythonRecipe, Recipe, resolved
from fastgan.train.folder import RECIPE
from fastgan.train.run import Run
from fastgan.train.session import Outcome, carry_out, facts_of


def start(
    recipe: Recipe, out: str | Path, *, resume: bool = False, checkpoint: Path | None = None, quiet: bool = False
) -> Outcome:
    """Trains what a recipe says; arguments as `fastgan.train.session.carry_out`.

        start(read("digits-dcgan", ["run.steps=2000"]), "runs/digits")

    Raises:
        UserError: the data cannot be read, parts do not go together, or as `carry_out`.
    """
    folder = expanded(out, "--out")
    recipe.check_out(folder)
    return carry_out(run_of(recipe), folder, recipe.written(), resume=resume, start=checkpoint, quiet=quiet)


def run_of(recipe: Recipe) -> Run:
    """The run of a recipe, before its first step, for whoever takes the steps.

    Raises:
        UserError: the data cannot be read, or parts do not go together.
    """
    sources = recipe.sources()
    task = recipe.build(facts_of(next(iter(sources.values())))["classes"])
    return Run(task, sources, recipe.game, recipe.run)


def kept_recipe(
    out: str | Path, changes: Sequence[str] = (), function: str | None = None, data: Mapping[str, str] = NOTHING
) -> Recipe:
    """The recipe of the run in a folder, with changes.

    Args:
        out: the run's folder.
        changes, data: as for `fastgan.recipes.read`.
        function: the user's own function that makes the task, where it is one: a run's folder is data, and does not
            decide which code is imported.

    Raises:
        UserError: there is none, it is damaged, or its task is made by a function that was not named.
    """
    path = expanded(out, "--out") / RECIPE
    try:
        sections = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"--out is {str(out)!r}, which holds no {RECIPE}; expected the folder of a run") from None
    except (OSError, *UNREADABLE) as error:
        raise UserError(f"{path} cannot be read: {one_line(error)}") from error
    if not isinstance(sections, dict) or "task" not in sections:
        raise UserError(f"{path} names no task: go on with the run by fit(resume=True), as it was started")
    return named_by_user(resolved(sections, changes, data), function)


def named_by_user(recipe: Recipe, function: str | None) -> Recipe:
    """The recipe, if building it imports nothing but what the user named.

    Raises:
        UserError: its task is made by another function.
    """
    if isinstance(recipe, PythonRecipe) and recipe.task.function != function:
        raise UserError(
            f"the run's task is made by {recipe.task.function}; expected --task {recipe.task.function}, which imports "
            "and runs it"
        )
    return recipe
