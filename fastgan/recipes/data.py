"""The data sections of recipes."""

from typing import Annotated, Any

from pydantic import ConfigDict, PlainValidator

from fastgan.data import load
from fastgan.data.mixtures import MixtureSource
from fastgan.errors import wrong
from fastgan.tasks import Source
from fastgan.train.sections import Section

LARGEST = 16_384
"""Pixels of an image's side."""


def _size(value: Any) -> int | tuple[int, int]:
    """64, or 64x32: height and width."""
    parts = [value] if isinstance(value, int) and not isinstance(value, bool) else str(value).split("x")
    sides = [int(part) if str(part).isdecimal() else 0 for part in parts]
    if not 1 <= len(sides) <= 2 or not 1 <= min(sides) <= max(sides) <= LARGEST:
        raise ValueError(f"expected a size such as 64, or height and width as in 64x32, 1 to {LARGEST}")
    return sides[0] if len(set(sides)) == 1 else (sides[0], sides[1])


def _channels(value: Any) -> int:
    if type(value) is not int or value not in (1, 3):
        raise ValueError("expected 1 or 3")
    return value


class Shape(Section):
    """The shape of images."""

    resolution: Annotated[Any, PlainValidator(_size)]
    """Height and width: 64, or 64x32."""
    channels: Annotated[Any, PlainValidator(_channels)]
    """1 for grey, 3 for RGB."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        sides = (self.resolution, self.resolution) if isinstance(self.resolution, int) else self.resolution
        return self.channels, sides[0], sides[1]


def _loaded(name: str, of: Shape) -> Source:
    try:
        return load(name, of.shape[1:], of.channels)
    except MemoryError:
        raise wrong("data.resolution", of.resolution, f"less: {name!r} does not fit into memory") from None


class ImageData(Shape):
    """One set of images."""

    image: str
    """digits, stacked-digits, textures, pagoda, dahlia, or a folder of images, whose subfolders are classes."""

    def sources(self) -> dict[str, Source]:
        """The images. Raises UserError where they cannot be read."""
        return {"image": _loaded(self.image, self)}

    def paths(self) -> dict[str, str]:
        """What may be folders, by the name of the setting."""
        return {"data.image": self.image}


class TwoSets(Shape):
    """Two sets of images."""

    a: str
    """The first set, as `image` of other tasks: a built-in name or a folder."""
    b: str
    """The second set."""

    def sources(self) -> dict[str, Source]:
        """The images. Raises UserError where they cannot be read."""
        return {"a": _loaded(self.a, self), "b": _loaded(self.b, self)}

    def paths(self) -> dict[str, str]:
        """What may be folders, by the name of the setting."""
        return {"data.a": self.a, "data.b": self.b}


class PlaneData(Section):
    """Points in the plane."""

    image: str
    """The mixture: ring (8 Gaussians) or grid (25)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a point."""
        return (2,)

    def sources(self) -> dict[str, Source]:
        """The mixture. Raises UserError where there is none of this name."""
        return {"image": MixtureSource(self.image)}

    def paths(self) -> dict[str, str]:
        """Nothing here may be a folder."""
        return {}


class NamedData(Section):
    """Sets by the names that a task of the user's needs, each a built-in name or a folder."""

    model_config = ConfigDict(extra="allow")

    def named(self) -> dict[str, str]:
        """The sets by name."""
        return {name: str(value) for name, value in (self.model_extra or {}).items()}

    def paths(self) -> dict[str, str]:
        """What may be folders, by the name of the setting."""
        return {f"data.{name}": value for name, value in self.named().items()}
