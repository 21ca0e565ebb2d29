"""The f-divergences once more, in numpy from their definitions: the conjugate by maximising u t - f(u) numerically."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar


@dataclass(frozen=True)
class Textbook:
    """f of a ratio u, and the output activation of a logit (Nowozin et al. 2016, table 6, or f'(exp(v)))."""

    f: Callable[[float], float]
    activation: Callable[[float], float]

    def conjugate(self, t: float) -> float:
        """sup over u > 0 of u t - f(u), over log u."""

        def negative(log_u: float) -> float:
            u = np.exp(log_u)
            return self.f(u) - u * t

        start = min(np.linspace(-40, 40, 801), key=negative)
        found = minimize_scalar(negative, bounds=(start - 0.2, start + 0.2), method="bounded", options={"xatol": 1e-12})
        return -found.fun


PI, ALPHA = 0.5, 2.0


def _weighted(u: float) -> float:
    m = 1 - PI + PI * u
    return PI * u * np.log(u) - m * np.log(m)


def _jeffrey(u: float) -> float:
    return (u - 1) * np.log(u)


def _alpha(u: float) -> float:
    return (u**ALPHA - 1 - ALPHA * (u - 1)) / (ALPHA * (ALPHA - 1))


TABLE = {
    "total_variation": Textbook(lambda u: abs(u - 1) / 2, lambda v: np.tanh(v) / 2),
    "kl": Textbook(lambda u: u * np.log(u), lambda v: v),
    "reverse_kl": Textbook(lambda u: -np.log(u), lambda v: -np.exp(-v)),
    "pearson": Textbook(lambda u: (u - 1) ** 2, lambda v: v),
    "neyman": Textbook(lambda u: (1 - u) ** 2 / u, lambda v: 1 - np.exp(-v)),
    "squared_hellinger": Textbook(lambda u: (np.sqrt(u) - 1) ** 2, lambda v: 1 - np.exp(-v)),
    "jeffrey": Textbook(_jeffrey, lambda v: 1 + v - np.exp(-v)),
    "jensen_shannon": Textbook(
        lambda u: u * np.log(u) - (u + 1) * np.log((u + 1) / 2), lambda v: np.log(2) - np.log1p(np.exp(-v))
    ),
    "weighted_jensen_shannon": Textbook(_weighted, lambda v: PI * (v - np.log(1 - PI + PI * np.exp(v)))),
    "gan": Textbook(lambda u: u * np.log(u) - (u + 1) * np.log(u + 1), lambda v: -np.log1p(np.exp(-v))),
    "alpha": Textbook(_alpha, lambda v: (np.exp((ALPHA - 1) * v) - 1) / (ALPHA - 1)),
}
