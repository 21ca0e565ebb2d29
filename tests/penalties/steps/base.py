"""What the steps are made of, and where they are listed.

A step maps h [B, C, *positions] (none to two) and labels y [B] to another such tensor. `STEPS` has a maker for
each: given hypothesis's draw and the shape (C, *positions) it returns a module, or None where the step does not fit.
"""

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

CLASSES = 4
Draw = Callable[[Any], Any]
Shape = tuple[int, ...]


class Step(nn.Module):
    """f(step, h, y) with the parameters, buffers, modules and settings it is given."""

    def __init__(self, name: str, f: Callable[["Step", Tensor, Tensor], Tensor], **parts: Any) -> None:
        super().__init__()
        self.name, self.f, self.parts = name, f, []
        for key, part in parts.items():
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(key, part)
            else:
                setattr(self, key, part)
            shown = tuple(part.shape) if isinstance(part, Tensor) else repr(part).replace("\n", "")
            self.parts.append(f"{key}={shown}")

    def forward(self, h: Tensor, y: Tensor) -> Tensor:
        return self.f(self, h, y)

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(self.parts)})"


Maker = Callable[[Draw, Shape], Step | None]
STEPS: dict[str, Maker] = {}
INELIGIBLE: set[str] = set()
"""Steps that are not piecewise affine sample by sample, or that cannot be told from such."""


def step(eligible: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(make: Callable[..., Any]) -> Callable[..., Any]:
        name = make.__name__.rstrip("_")

        def named(draw: Draw, shape: Shape) -> Step | None:
            made = make(draw, shape)
            if made is None or isinstance(made, Step):
                return made
            f, parts = made if isinstance(made, tuple) else (made, {})
            return Step(name, f, **parts)

        STEPS[name] = named
        if not eligible:
            INELIGIBLE.add(name)
        return make

    return register


def pick(draw: Draw, *options: Any) -> Any:
    return draw(st.sampled_from(options))


def whole(draw: Draw, low: int, high: int) -> int:
    return draw(st.integers(low, high))


def flag(draw: Draw) -> bool:
    return draw(st.booleans())


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.rand(shape) + 0.5)


def bias(*shape: int) -> nn.Parameter:
    return nn.Parameter(0.3 * torch.randn(shape))


def ones(shape: Shape) -> tuple[int, ...]:
    return (1,) * (len(shape) - 1)


def along(c: Tensor, h: Tensor) -> Tensor:
    """[..., C] to the channels of h."""
    return c.reshape(*c.shape, *[1] * (h.ndim - 2))
