"""Networks as recipes describe them: {kind: resnet, width: 64}."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ConfigDict
from torch import nn

from fastgan.errors import UNBUILDABLE, UserError, nearest, one_line, wrong
from fastgan.train.sections import Section

FOLLOW = frozenset({"channels", "resolution", "outputs", "num_classes"})
"""Arguments that follow from the data and the task."""


class Network(Section):
    """A network by its kind; what else is given are arguments of its class, numbers as a rule."""

    model_config = ConfigDict(extra="allow")

    kind: str
    """Which network, of those that the task knows."""

    def takes(self, argument: str, known: Mapping[str, Callable[..., nn.Module]]) -> bool:
        """Whether networks of this kind have an argument; of an unknown kind nobody knows."""
        return self.kind not in known or argument in inspect.signature(known[self.kind]).parameters

    def build(self, place: str, known: Mapping[str, Callable[..., nn.Module]], **given: Any) -> nn.Module:
        """Makes the network.

        Args:
            place: of this section, for messages: `task.critic`.
            known: what makes networks, by kind.
            given: arguments that follow from the data and the task.

        Raises:
            UserError: there is no such kind, or an argument is unknown or out of range.
        """
        if self.kind not in known:
            raise wrong(f"{place}.kind", self.kind, nearest(self.kind, known))
        make, chosen = known[self.kind], self.model_extra or {}
        possible = [name for name in inspect.signature(make).parameters if name not in FOLLOW]
        for name, value in chosen.items():
            if name not in possible:
                raise UserError(f"{place}.{name} is no setting of {self.kind}, expected {nearest(name, possible)}")
            if _is_number(make, name) and not isinstance(value, (int, float)):
                raise wrong(f"{place}.{name}", value, "a number")
        try:
            return make(**given, **chosen)
        except UNBUILDABLE as error:
            raise UserError(f"{place} cannot be built: {one_line(error)}") from None


def _is_number(make: Callable[..., nn.Module], argument: str) -> bool:
    return inspect.signature(make).parameters[argument].annotation in (int, float)
