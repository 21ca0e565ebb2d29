"""The gradient penalties R1, R2, WGAN-GP and DRAGAN: their points, and their cost of a gradient's norm.

A penalty is the mean over its points x_i of rho(||g_i||), g_i the gradient of D(x_i) with respect to x_i. Norms and
interpolation weights are per sample, always.
"""

import math
from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from fastgan.errors import nearest
from fastgan.ops.gradient_norm_penalty import gradient_norm_penalty
from fastgan.ops.interpolate import interpolate


class Rho(NamedTuple):
    """weight/2 ||g||^2 without a target, else weight (||g|| - target)^2; one-sided only above the target."""

    weight: float
    target: float | None = None
    one_sided: bool = False

    def __call__(self, g: Tensor) -> Tensor:
        """[B, ...] -> [B], float32 (float64 for float64), differentiable twice."""
        return gradient_norm_penalty(g, *self)


class Penalty(Protocol):
    """A gradient penalty, as `critic_loss` sees it.

    Attributes:
        name: on the command line and in logs.
        at: `real` or `fake`, where the critic's output is needed anyway, or `elsewhere`.
        rho: the cost of a sample's gradient.
    """

    name: ClassVar[str]
    at: ClassVar[str]

    @property
    def rho(self) -> Rho: ...

    def points(self, real: Tensor, fake: Tensor) -> Tensor:
        """Where the gradient is taken: [B, ...], detached."""
        ...

    def times(self, factor: float) -> "Penalty":
        """The same penalty with its weight multiplied by `factor`."""
        ...


@dataclass(frozen=True)
class R1:
    """gamma/2 E_p ||grad D(x)||^2 on real samples (Mescheder et al. 2018, arXiv:1801.04406, equation 9)."""

    gamma: float = 10.0
    name: ClassVar[str] = "r1"
    at: ClassVar[str] = "real"

    def __post_init__(self) -> None:
        _at_least_zero(self, "gamma", self.gamma)

    @property
    def rho(self) -> Rho:
        return Rho(self.gamma)

    def times(self, factor: float) -> "R1":
        return replace(self, gamma=self.gamma * factor)

    def points(self, real: Tensor, fake: Tensor) -> Tensor:
        return real.detach()


@dataclass(frozen=True)
class R2:
    """gamma/2 E_q ||grad D(x)||^2 on generated samples (Mescheder et al. 2018, arXiv:1801.04406, equation 10)."""

    gamma: float = 10.0
    name: ClassVar[str] = "r2"
    at: ClassVar[str] = "fake"

    def __post_init__(self) -> None:
        _at_least_zero(self, "gamma", self.gamma)

    @property
    def rho(self) -> Rho:
        return Rho(self.gamma)

    def times(self, factor: float) -> "R2":
        return replace(self, gamma=self.gamma * factor)

    def points(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake.detach()


@dataclass(frozen=True)
class WGANGP:
    """weight E (||grad D(x̂)|| - target)^2 at x̂ = eps x + (1 - eps) G(z), with one eps ~ U[0, 1) for each sample.

    Gulrajani et al. 2017, arXiv:1704.00028, equation 3. `one_sided` penalises only norms above the target (Petzka et
    al. 2018, arXiv:1709.08894).
    """

    weight: float = 10.0
    target: float = 1.0
    one_sided: bool = False
    name: ClassVar[str] = "wgan-gp"
    at: ClassVar[str] = "elsewhere"

    def __post_init__(self) -> None:
        _at_least_zero(self, "weight", self.weight)
        _at_least_zero(self, "target", self.target)
        _true_or_false(self, "one_sided", self.one_sided)

    @property
    def rho(self) -> Rho:
        return Rho(self.weight, self.target, self.one_sided)

    def times(self, factor: float) -> "WGANGP":
        return replace(self, weight=self.weight * factor)

    def points(self, real: Tensor, fake: Tensor) -> Tensor:
        if real.shape != fake.shape:
            raise ValueError(
                f"fake has shape {list(fake.shape)}, expected {list(real.shape)} like real: "
                f"{self.name} interpolates between them"
            )
        # Drawn on the device: nothing waits for it, and every replay of a CUDA graph draws another.
        seed = torch.randint(2**62, (1,), device=real.device)
        with torch.no_grad():
            return interpolate(real, fake.to(real.dtype), seed)


@dataclass(frozen=True)
class DRAGAN:
    """weight E (||grad D(x + d)|| - target)^2 around real samples, d ~ N(0, (deviation std(x))^2).

    Kodali et al. 2017, arXiv:1705.07215, section 2.3; std(x) is that of all numbers of the batch, so that the
    perturbation has the scale of the data.
    """

    weight: float = 10.0
    target: float = 1.0
    deviation: float = 0.5
    one_sided: bool = False
    name: ClassVar[str] = "dragan"
    at: ClassVar[str] = "elsewhere"

    def __post_init__(self) -> None:
        for name in ("weight", "target", "deviation"):
            _at_least_zero(self, name, getattr(self, name))
        _true_or_false(self, "one_sided", self.one_sided)

    @property
    def rho(self) -> Rho:
        return Rho(self.weight, self.target, self.one_sided)

    def times(self, factor: float) -> "DRAGAN":
        return replace(self, weight=self.weight * factor)

    def points(self, real: Tensor, fake: Tensor) -> Tensor:
        real = real.detach()
        return real + torch.randn_like(real) * (self.deviation * real.std(correction=0))


PENALTIES: dict[str, type] = {kind.name: kind for kind in (R1, R2, WGANGP, DRAGAN)}
"""Every penalty by its name on the command line."""


def parse(text: str) -> tuple[Penalty, ...]:
    """`r1:10,r2:10` -> (R1(10.0), R2(10.0)); a name alone has its default weight, an empty text or `none` no penalty.

    After the weight may follow the other numbers in the order of the class's arguments, and `one-sided` last where it
    has sides: `wgan-gp:10:one-sided`, `dragan:10:1:0.5` (the target 1, the deviation 0.5), `wgan-gp:one-sided`.

    Raises:
        ValueError: a name is unknown, a number is not one >= 0, or there are too many for the penalty.
    """
    parts = filter(None, (part.strip() for part in text.split(",")))
    return tuple(_parse_one(part) for part in parts if part != "none")


def _parse_one(part: str) -> Penalty:
    name, *words = part.split(":")
    if name not in PENALTIES:
        raise ValueError(f"{part!r} is not a penalty, expected {nearest(name, PENALTIES)}, as in r1:10,r2:10")
    kind = PENALTIES[name]
    arguments = [field.name for field in fields(kind)]
    sided = {}
    if arguments[-1] == "one_sided":
        arguments.pop()
        if words[-1:] == ["one-sided"]:
            words.pop()
            sided["one_sided"] = True
    arguments[0] = "weight"  # whatever the paper's letter
    if len(words) > len(arguments):
        raise ValueError(f"{part!r}, expected {', '.join(arguments)} at most after {name}")
    return kind(*(_number(part, *pair) for pair in zip(arguments, words, strict=False)), **sided)


def _number(part: str, argument: str, word: str) -> float:
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError(f"{part!r} has the {argument} {word!r}, expected a number >= 0")
    return number


def _at_least_zero(penalty: object, name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value < math.inf:
        raise ValueError(f"{type(penalty).__name__}: {name} is {value!r}, expected a finite number >= 0")


def _true_or_false(penalty: object, name: str, value: bool) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{type(penalty).__name__}: {name} is {value!r}, expected True or False")
