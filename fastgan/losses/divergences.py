"""The f-divergences D_f(p, q) = E_q f(p / q), each with what a game over it needs.

f is convex with f(1) = 0. Its conjugate f*(t) = sup over u of (u t - f(u)) bounds the divergence from below by any
function T of the data,

    D_f(p, q)  >=  E_p T - E_q f*(T),        with equality at T = f'(p / q)

(Nguyen et al. 2010, arXiv:0809.0853). A critic's logit v is made such a T by an output activation g that is increasing
and keeps to the domain of f* (Nowozin et al. 2016, arXiv:1606.00709, tables 1 and 6, which has the names). Where that
paper's has no closed conjugate (Jeffrey) or none is given for every parameter (alpha, weighted Jensen-Shannon), g(v) =
f'(exp(v)): then the best logit is log(p / q).

f* after g is one expression here, without overflow. Where both are exponentials of one sign, they go on as their
tangents from one and the same logit v_0, at which the steeper exponent is 30. From there on (T, f*) moves along the
tangent of f*, whose slope is the ratio u_0 of v_0: u T - f* <= f(u) still holds for every ratio u on this side of u_0,
so that no critic gains by logits beyond. If one went over before the other, the critic's loss would have no lower
bound.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu, softplus

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Divergence:
    """One f-divergence; all functions are elementwise and differentiable.

    Attributes:
        name: what the Python API and the command line call it, with its parameter if that is not the default.
        f: of the ratio u > 0.
        derivative: f'(u), the best T.
        conjugate: f*(t) for t in the domain.
        domain: the open interval of t that f' reaches (closed for the total variation).
        activation: g(v), from a logit to t.
        conjugate_of_logit: f*(g(v)), as it is computed in training.
    """

    name: str
    f: Function
    derivative: Function
    conjugate: Function
    domain: tuple[float, float]
    activation: Function
    conjugate_of_logit: Function


LIMIT = 30.0


def exp(v: Tensor, limit: float = LIMIT) -> Tensor:
    """exp(v) up to v = limit and its tangent beyond: at 30, 1e4 gives 1e17, and the gradient never exceeds exp(30)."""
    # At the limit itself the exponential passes the gradient on; relu does not, or the slope would be twice as large.
    # (clamp passes it on before PyTorch 2.15 only.)
    return torch.exp(v.masked_fill(v > limit, limit)) * (1 + relu(v - limit))


def total_variation() -> Divergence:
    """|u - 1| / 2; T is within [-1/2, 1/2], where f* is the identity."""

    def activation(v: Tensor) -> Tensor:
        return torch.tanh(v) / 2

    return Divergence(
        "total_variation",
        lambda u: (u - 1).abs() / 2,
        lambda u: torch.sign(u - 1) / 2,
        lambda t: t,
        (-0.5, 0.5),
        activation,
        activation,
    )


def kl() -> Divergence:
    """u log u: KL(p, q)."""
    return Divergence(
        "kl",
        lambda u: torch.special.xlogy(u, u),
        lambda u: 1 + torch.log(u),
        lambda t: torch.exp(t - 1),
        (-math.inf, math.inf),
        lambda v: v,
        lambda v: exp(v - 1),
    )


def reverse_kl() -> Divergence:
    """-log u: KL(q, p)."""
    return Divergence(
        "reverse_kl",
        lambda u: -torch.log(u),
        lambda u: -1 / u,
        lambda t: -1 - torch.log(-t),
        (-math.inf, 0.0),
        lambda v: -exp(-v),
        lambda v: v - 1,
    )


def pearson() -> Divergence:
    """(u - 1)^2: Pearson's chi^2. T of a ratio is above -2; f* is -1 below, where the paper's quadratic rises again."""

    def conjugate(t: Tensor) -> Tensor:
        return (t.clamp(min=-2) / 2 + 1).square() - 1

    return Divergence(
        "pearson",
        lambda u: (u - 1).square(),
        lambda u: 2 * (u - 1),
        conjugate,
        (-math.inf, math.inf),
        lambda v: v,
        conjugate,
    )


def neyman() -> Divergence:
    """(1 - u)^2 / u: Neyman's chi^2."""
    return Divergence(
        "neyman",
        lambda u: (1 - u).square() / u,
        lambda u: 1 - u**-2,
        lambda t: 2 - 2 * torch.sqrt(1 - t),
        (-math.inf, 1.0),
        lambda v: 1 - exp(-v),
        lambda v: 2 - 2 * exp(-v / 2, LIMIT / 2),  # from where T goes on as its tangent
    )


def squared_hellinger() -> Divergence:
    """(sqrt(u) - 1)^2."""
    return Divergence(
        "squared_hellinger",
        lambda u: (torch.sqrt(u) - 1).square(),
        lambda u: 1 - torch.rsqrt(u),
        lambda t: t / (1 - t),
        (-math.inf, 1.0),
        lambda v: 1 - exp(-v),
        lambda v: exp(v) - 1,
    )


def jeffrey() -> Divergence:
    """(u - 1) log u: KL(p, q) + KL(q, p)."""
    return Divergence(
        "jeffrey",
        lambda u: (u - 1) * torch.log(u),
        lambda u: 1 + torch.log(u) - 1 / u,
        _jeffrey_conjugate,
        (-math.inf, math.inf),
        lambda v: 1 + v - exp(-v),
        lambda v: exp(v) + v - 1,
    )


def _jeffrey_conjugate(t: Tensor) -> Tensor:
    """exp(v) + v - 1 at the v that solves 1 + v - exp(-v) = t, which is Lambert's W, by Newton's method.

    The left side is increasing and concave: from below the root, as both starts are, Newton's iterates stay below and
    converge. Each of the two steps that autograd sees doubles the order to which it knows the root's derivatives.
    """

    def step(v: Tensor) -> Tensor:
        return v - (1 + v - torch.exp(-v) - t) / (1 + torch.exp(-v))

    with torch.no_grad():
        v = torch.maximum(t - 1, -torch.log((2 - t).clamp(min=1)))
        for _ in range(8):
            v = step(v)
    v = step(step(v))
    return torch.exp(v) + v - 1


def jensen_shannon() -> Divergence:
    """u log u - (u + 1) log((u + 1) / 2): twice the Jensen-Shannon divergence."""
    return Divergence(
        "jensen_shannon",
        lambda u: torch.special.xlogy(u, u) - (u + 1) * torch.log((u + 1) / 2),
        lambda u: torch.log(2 * u / (u + 1)),
        lambda t: -torch.log(2 - torch.exp(t)),
        (-math.inf, math.log(2)),
        lambda v: math.log(2) + logsigmoid(v),
        lambda v: softplus(v) - math.log(2),
    )


def weighted_jensen_shannon(pi: float = 0.5) -> Divergence:
    """pi u log u - (1 - pi + pi u) log(1 - pi + pi u): p weighs pi and q 1 - pi in the mixture.

    Raises:
        ValueError: pi is not between 0 and 1.
    """
    if not 0 < pi < 1:
        raise ValueError(f"weighted_jensen_shannon: pi is {pi!r}, expected a number between 0 and 1")
    odds = math.log(pi) - math.log1p(-pi)

    def log_mixture(v: Tensor) -> Tensor:  # log(1 - pi + pi exp(v))
        return softplus(v + odds) + math.log1p(-pi)

    def mixture(u: Tensor) -> Tensor:
        return 1 - pi + pi * u

    return Divergence(
        "weighted_jensen_shannon" if pi == 0.5 else f"weighted_jensen_shannon:{pi}",
        lambda u: pi * torch.special.xlogy(u, u) - torch.special.xlogy(mixture(u), mixture(u)),
        lambda u: pi * torch.log(u / mixture(u)),
        lambda t: (1 - pi) * torch.log((1 - pi) / (1 - pi * torch.exp(t / pi))),
        (-math.inf, -pi * math.log(pi)),
        lambda v: pi * (logsigmoid(v + odds) - math.log(pi)),
        lambda v: (1 - pi) * log_mixture(v),
    )


def gan() -> Divergence:
    """u log u - (u + 1) log(u + 1): the value of the minimax game. f(1) = -log 4, not 0."""
    return Divergence(
        "gan",
        lambda u: torch.special.xlogy(u, u) - (u + 1) * torch.log(u + 1),
        lambda u: torch.log(u / (u + 1)),
        lambda t: -torch.log(-torch.expm1(t)),
        (-math.inf, 0.0),
        logsigmoid,
        softplus,
    )


def alpha(alpha: float = 2.0) -> Divergence:
    """(u^a - 1 - a (u - 1)) / (a (a - 1)): KL for a -> 1, reverse KL for a -> 0, half of Pearson's for 2.

    Raises:
        ValueError: alpha is 0 or 1, or no finite number.
    """
    if alpha in (0, 1) or not math.isfinite(alpha):
        raise ValueError(f"alpha: alpha is {alpha!r}, expected a number other than 0 and 1")
    a = alpha
    edge = 1 / (1 - a)  # f' is above it for a > 1, below for a < 1
    last = LIMIT / max(abs(a), abs(a - 1))  # the logit, of either sign, from where both go on as their tangents
    return Divergence(
        "alpha" if alpha == 2 else f"alpha:{alpha}",
        lambda u: (u**a - 1 - a * (u - 1)) / (a * (a - 1)),
        lambda u: (u ** (a - 1) - 1) / (a - 1),
        lambda t: ((1 + (a - 1) * t) ** (a / (a - 1)) - 1) / a,
        (edge, math.inf) if a > 1 else (-math.inf, edge),
        lambda v: (exp((a - 1) * v, last * abs(a - 1)) - 1) / (a - 1),
        lambda v: (exp(a * v, last * abs(a)) - 1) / a,
    )


DIVERGENCES: dict[str, Callable[..., Divergence]] = {
    make.__name__: make
    for make in (
        total_variation, kl, reverse_kl, pearson, neyman, squared_hellinger, jeffrey, jensen_shannon,
        weighted_jensen_shannon, gan, alpha,
    )
}  # fmt: skip
"""Every f-divergence by name."""

PARAMETRIC = ("weighted_jensen_shannon", "alpha")
"""The divergences that take a parameter."""
