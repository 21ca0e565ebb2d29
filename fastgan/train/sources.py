"""Data as a user names them, as the sources that a task needs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastgan.data import MixtureSource, TensorSource, load
from fastgan.errors import UserError, shown
from fastgan.tasks import Field, Source


def sources_of(data: Any, needs: Mapping[str, Field]) -> dict[str, Source]:
    """The sources of a task by name.

    Args:
        data: of one set or, for several, a dictionary of these; each a name, a path, a tensor or a `Source`.
        needs: what the task needs.

    Raises:
        UserError: a set is missing or unknown, cannot be read, or has samples of another shape.
    """
    given = dict(data) if isinstance(data, Mapping) else {next(iter(needs)): data}
    if given.keys() != needs.keys():
        raise UserError(f"the data are {', '.join(given)}, expected {', '.join(needs)}")
    return {name: _source(name, given[name], field) for name, field in needs.items()}


def _source(name: str, data: Any, field: Field) -> Source:
    if isinstance(data, (str, Path)):
        return _named(str(data), field)
    source = TensorSource(name, data) if isinstance(data, Tensor) else data
    if not hasattr(source, "read"):
        raise UserError(f"data.{name} is {shown(data)}, expected a name, a folder, a tensor or a Source")
    found = tuple(source.read(torch.zeros(1, dtype=torch.int64), 0)["image"].shape[1:])
    if field.shape is not None and found != tuple(field.shape):
        raise UserError(f"data.{name} has samples of shape {list(found)}, expected {list(field.shape)}")
    return source


def _named(name: str, field: Field) -> Source:
    if field.shape is None:
        raise UserError(f"the data are {name!r}, expected a Source: the task does not say of what shape")
    if len(field.shape) == 1:
        return MixtureSource(name)
    channels, height, width = field.shape
    return load(name, (height, width), channels)
