"""`load`: a run's task as it was at a checkpoint, to sample from and to measure."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastgan.errors import UserError, one_line
from fastgan.recipes.recipe import Recipe, resolved
from fastgan.recipes.starting import named_by_user
from fastgan.tasks import Source, Task
from fastgan.train.checkpoint import find_checkpoint, read_checkpoint
from fastgan.train.devices import choose_device
from fastgan.train.session import facts_of
from fastgan.train.state import below


@dataclass(frozen=True)
class Trained:
    """A run's task at a checkpoint.

    Attributes:
        task: in evaluation mode, without gradients.
        recipe: of the run.
        step: steps that it was trained for.
        facts: of the data, by the names of the sources: `samples`, `classes`, `digest`.
    """

    task: Task
    recipe: Recipe
    step: int
    facts: dict[str, dict[str, Any]]

    def sources(self) -> dict[str, Source]:
        """The data that the run was trained on, read again.

        Raises:
            UserError: they cannot be read, or are others.
        """
        try:
            sources = self.recipe.sources()
        except UserError as error:
            raise UserError(f"CHECKPOINT was trained on data that cannot be read again: {error}") from error
        for name, source in sources.items():
            if facts_of(source) != self.facts[name]:
                raise UserError(
                    f"CHECKPOINT was trained on {source.name!r}, whose files differ in name, size or content from "
                    "those; expected the same ones"
                )
        return sources


def load(path: str | Path, device: str = "cpu", function: str | None = None) -> Trained:
    """Loads a run's task.

        images = load("runs/digits").task.sample(64, seed=0)

    Args:
        path: a checkpoint, or a run's folder for its newest one.
        device: cpu, cuda, cuda:N, or auto for a GPU if there is one.
        function: package.module:function that makes the task, for a run that was started with --task; a checkpoint is
            data, and does not decide which code is imported.

    Raises:
        UserError: there is no checkpoint, it is damaged or of another version, or there is no such device.
    """
    place = choose_device(device)
    file = find_checkpoint(path, "CHECKPOINT")
    tensors, header = read_checkpoint(file)
    try:
        recipe = resolved(header["recipe"])
        task = named_by_user(recipe, function).build(next(iter(header["sources"].values()))["classes"])
        task.load_state_dict(below(tensors, "task"))
    except (KeyError, TypeError, RuntimeError) as error:
        raise UserError(f"{file} does not fit this version of fastgan: {one_line(error)}") from error
    ready = task.to(place).eval().requires_grad_(False)
    return Trained(ready, recipe, header["step"], header["sources"])
