"""What is trained: networks on two sides, what each side minimises, how one samples, shows and measures.

The tasks themselves are imported when they are asked for: their data and pictures need more packages than games do.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastgan.tasks.task import Batch, Field, Now, Part, Plan, Side, Source, Task

if TYPE_CHECKING:
    from fastgan.tasks.cycle_gan import CycleGAN
    from fastgan.tasks.gan import GAN
    from fastgan.tasks.lazily import Lazily
    from fastgan.tasks.points import Points

_PLACES = {"CycleGAN": "cycle_gan", "GAN": "gan", "Lazily": "lazily", "Points": "points"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'fastgan.tasks' has no attribute {name!r}")
    return getattr(import_module(f"fastgan.tasks.{_PLACES[name]}"), name)


__all__ = [
    "GAN",
    "Batch",
    "CycleGAN",
    "Field",
    "Lazily",
    "Now",
    "Part",
    "Plan",
    "Points",
    "Side",
    "Source",
    "Task",
]
