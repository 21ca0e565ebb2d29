"""`Recipe`: a task, its data, its game and its run, complete and checked, readable and writable as YAML."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml

from fastgan.default_dtype import float32_by_default
from fastgan.errors import UNBUILDABLE, UserError, nearest, one_line, wrong
from fastgan.files import expanded
from fastgan.recipes.cycle_gan import CycleGANSection
from fastgan.recipes.data import ImageData, NamedData, PlaneData, TwoSets
from fastgan.recipes.gan import GANSection
from fastgan.recipes.points import PointsSection
from fastgan.recipes.python import PythonSection
from fastgan.tasks import Source, Task
from fastgan.train.folder import refuse_inside
from fastgan.train.keys import key_of
from fastgan.train.sections import Section, checked
from fastgan.train.settings import GameSettings, RunSettings
from fastgan.train.sources import sources_of

FOLDER = Path(__file__).parent


class Recipe(Section):
    """What `fastgan train` carries out."""

    about: str = ""
    """One line on what it makes."""
    task: Any
    """What is trained: its networks, and what each side minimises."""
    data: Any
    """What it is trained on."""
    game: GameSettings = GameSettings()
    """How the players move."""
    run: RunSettings
    """How long, on what, and what is written."""

    def sources(self) -> dict[str, Source]:
        """The data. Raises UserError where they cannot be read."""
        return self.data.sources()

    def build(self, classes: Mapping[str, int]) -> Task:
        """The task with fresh weights, which are functions of the seed.

        Args:
            classes: of the data, in the order of the labels, with how many samples they have; empty without.

        Raises:
            UserError: parts do not go together, or a network cannot be built.
        """
        with self.own_weights():
            try:
                return self.task.build(self.data.shape, classes, self.run.batch_size)
            except UserError:
                raise
            except UNBUILDABLE as error:
                raise UserError(f"task cannot be built: {one_line(error)}") from error

    @contextmanager
    def own_weights(self) -> Iterator[None]:
        """Inside, fresh weights are functions of the seed; PyTorch's global generator is given back as it was."""
        with torch.random.fork_rng(devices=[]), float32_by_default():
            torch.default_generator.manual_seed(key_of(self.run.seed, "weights"))
            yield

    def written(self) -> dict[str, Any]:
        """As JSON values, every key with its value."""
        return self.model_dump(mode="json")

    def check_out(self, out: Path) -> None:
        """Raises UserError where pictures would be written into the data."""
        refuse_inside(out, self.data.paths())


class GANRecipe(Recipe):
    """A recipe of a GAN of images."""

    task: GANSection
    data: ImageData


class CycleGANRecipe(Recipe):
    """A recipe of a CycleGAN."""

    task: CycleGANSection
    data: TwoSets


class PointsRecipe(Recipe):
    """A recipe of a GAN of points."""

    task: PointsSection
    data: PlaneData


class PythonRecipe(Recipe):
    """A recipe of a task that a function of the user's makes."""

    task: PythonSection
    data: NamedData

    def sources(self) -> dict[str, Source]:
        """The data. Raises UserError where they cannot be read, or are not those that the task needs."""
        return sources_of(self.data.named(), self.build({}).needs)

    def build(self, classes: Mapping[str, int]) -> Task:
        """What the function returns, called with fresh weights' seed set. Raises UserError where it is no Task."""
        with self.own_weights():
            return self.task.build()


KINDS: dict[str, type[Recipe]] = {
    "gan": GANRecipe,
    "cycle-gan": CycleGANRecipe,
    "points": PointsRecipe,
    "python": PythonRecipe,
}
"""What `task.kind` may be."""

NOTHING: Mapping[str, str] = {}
UNREADABLE = (yaml.YAMLError, ValueError, RecursionError)
"""What PyYAML raises of text that is no YAML, of values such as the date 2024-13-45, and of brackets in brackets."""


def names() -> list[str]:
    """The recipes that fastgan comes with."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read(source: str | Path, changes: Sequence[str] = (), data: Mapping[str, str] = NOTHING) -> Recipe:
    """A recipe by its name, or of a YAML file.

    Args:
        source: one of `names()`, or the path of a file that ends in .yaml or .yml.
        changes: `section.key=value`, the value as in YAML; for parts of a section `task.critic.width=64`.
        data: changes of the section of this name, which are text as they are.

    Raises:
        UserError: there is no such recipe, it cannot be read, or a key or value is unknown or out of range.
    """
    return resolved(_sections(source), changes, data)


def resolved(sections: Mapping[str, Any], changes: Sequence[str] = (), data: Mapping[str, str] = NOTHING) -> Recipe:
    """The recipe of sections as they are in YAML, with changes as for `read`."""
    values: dict[str, Any] = {}
    for name, section in sections.items():
        values[str(name)] = dict(section) if isinstance(section, Mapping) else section
    for change in changes:
        _change(values, change)
    if data:
        values["data"] = {**(values["data"] if isinstance(values.get("data"), dict) else {}), **data}
    task = values.get("task")
    kind = task.get("kind") if isinstance(task, Mapping) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise wrong("task.kind", kind, nearest(str(kind), KINDS))
    return checked(KINDS[kind], values)


def _sections(source: str | Path) -> Mapping[str, Any]:
    path = expanded(source, "--config")
    if path.suffix not in (".yaml", ".yml"):
        if str(source) not in names():
            raise UserError(f"RECIPE is {str(source)!r}, expected {nearest(str(source), names())}, or a .yaml file")
        path = FOLDER / f"{source}.yaml"
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"the recipe {str(source)!r} cannot be read: {error.strerror or error}") from error
    except UNREADABLE as error:
        raise UserError(f"the recipe {str(source)!r} is no YAML: {one_line(error)}") from error
    if not isinstance(found, Mapping):
        raise UserError(f"the recipe {str(source)!r} holds {type(found).__name__}, expected the sections of a recipe")
    return found


def _change(values: dict[str, Any], change: str) -> None:
    """Sets one key of nested sections."""
    path, equals, text = change.partition("=")
    *sections, key = path.split(".")
    if not equals or not sections or not all([*sections, key]):
        raise UserError(f"{change!r} is no setting, expected section.key=value, as in game.lr=1e-3")
    if sections[0] not in Recipe.model_fields:
        raise UserError(f"{path} is no setting, expected a section {nearest(sections[0], Recipe.model_fields)}")
    try:
        value = yaml.safe_load(text) if text else ""
    except UNREADABLE:
        value = text
    place: Any = values
    for section in sections:
        inner = place.get(section)
        place[section] = place = dict(inner) if isinstance(inner, Mapping) else {}
    place[key] = value
