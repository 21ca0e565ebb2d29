"""The boundary-equilibrium game: an autoencoder critic, held in balance with the generator by a controlled weight.

D is the critic's reconstruction error, an energy as in `ebgan`. The weight k of the samples in the critic's loss grows
while they are reconstructed too well beside data, so that E_q D approaches gamma E_p D:

    k <- k + lambda (gamma E_p D(x) - E_q D(G(z))),  kept to [0, 1]

The formulas are pure functions that take k. `Began` is a `Loss` that has a k of its own:

    loss = fastgan.losses.began(gamma=0.5)
    loss.critic(real_errors, fake_errors).backward()
    critic_optimizer.step()
    loss.update(real_errors, fake_errors)
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial, update_wrapper
from typing import Any

import torch
from torch import Tensor

from fastgan.losses.features import wide
from fastgan.losses.loss import Loss

GAMMA, RATE = 0.5, 0.001


def critic(k: Tensor, real_errors: Tensor, fake_errors: Tensor) -> Tensor:
    """E_p D(x) - k E_q D(G(z)).

    Args:
        k: the samples' weight, a scalar from 0 to 1, a constant to the critic.
        real_errors: the critic's reconstruction errors of data, any shape, floating point, at least 0.
        fake_errors: those of samples, any shape.

    Returns:
        A scalar.

    Berthelot et al. 2017, arXiv:1703.10717, section 3.4.
    """
    return wide(real_errors).mean() - k * wide(fake_errors).mean()


def generator(fake_errors: Tensor, real_errors: Tensor | None = None) -> Tensor:
    """E_q D(G(z)).

    Args:
        fake_errors: the critic's reconstruction errors of samples, any shape, floating point.
        real_errors: not used.

    Returns:
        A scalar.

    Berthelot et al. 2017, arXiv:1703.10717, section 3.4.
    """
    return wide(fake_errors).mean()


def balance(gamma: float, real_errors: Tensor, fake_errors: Tensor) -> Tensor:
    """gamma E_p D(x) - E_q D(G(z)): above 0 where samples are reconstructed too well, 0 in equilibrium."""
    return gamma * wide(real_errors).mean() - wide(fake_errors).mean()


def next_k(k: Tensor, gamma: float, lambda_k: float, real_errors: Tensor, fake_errors: Tensor) -> Tensor:
    """k + lambda_k (gamma E_p D(x) - E_q D(G(z))), kept to [0, 1].

    Args:
        k: the weight as it is, a scalar.
        gamma: the wanted ratio E_q D / E_p D, from 0 to 1; the lower, the less varied the samples.
        lambda_k: how fast k follows.
        real_errors, fake_errors: as for `critic`.

    Returns:
        The next weight, a scalar in float32 (float64 for float64).

    Berthelot et al. 2017, arXiv:1703.10717, section 3.4.
    """
    return (k + lambda_k * balance(gamma, real_errors, fake_errors)).clamp(0, 1)


def convergence_measure(gamma: float, real_errors: Tensor, fake_errors: Tensor) -> Tensor:
    """E_p D(x) + |gamma E_p D(x) - E_q D(G(z))|, which falls while training goes well.

    Args:
        gamma: the wanted ratio.
        real_errors, fake_errors: as for `critic`.

    Returns:
        A scalar in float32 (float64 for float64).

    Berthelot et al. 2017, arXiv:1703.10717, section 3.4.1.
    """
    return wide(real_errors).mean() + balance(gamma, real_errors, fake_errors).abs()


def _critic_of(state: dict[str, Tensor], real_errors: Tensor, fake_errors: Tensor) -> Tensor:
    return critic(state["k"], real_errors, fake_errors)


@dataclass(frozen=True, eq=False)
class Began(Loss):
    """The game with its weight k, made by `began`; `state_dict` holds k for checkpoints.

    Attributes:
        gamma, lambda_k: see `next_k`.
        state: `k` alone.
    """

    gamma: float = GAMMA
    lambda_k: float = RATE

    @property
    def k(self) -> Tensor:
        """The present weight of samples, a scalar; after the first update on the device of the errors."""
        return self.state["k"]

    def update(self, real: Tensor, fake: Tensor) -> None:
        """Updates k, after the critic's step; does not wait for a GPU.

        Args:
            real, fake: the critic's errors of this step, or their means: detached or not. In the paper those of the
                samples are of the generator's own batch; either estimates the same.
        """
        with torch.no_grad():
            k = self.k.to(fake.device)
            # Another tensor: autograd may still have the last one.
            self.state["k"] = next_k(k, self.gamma, self.lambda_k, real, fake)

    def convergence(self, real_errors: Tensor, fake_errors: Tensor) -> Tensor:
        """The convergence measure, detached: see `convergence_measure`."""
        with torch.no_grad():
            return convergence_measure(self.gamma, real_errors, fake_errors)

    def state_dict(self) -> dict[str, Tensor]:
        """{"k": k}; updates replace k, so this tensor stays as it is."""
        return {"k": self.k}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Sets k from a `state_dict`.

        Raises:
            ValueError: there is not k alone, or it is no scalar from 0 to 1.
        """
        if set(state) != {"k"}:
            raise ValueError(f"began: state has the keys {sorted(state)}, expected k")
        k = torch.as_tensor(state["k"])
        if k.ndim or not k.is_floating_point() or not 0 <= k <= 1:
            raise ValueError(f"began: k is {state['k']!r}, expected a scalar from 0 to 1")
        self.state["k"] = k.detach().clone()


def began(gamma: float = GAMMA, lambda_k: float = RATE) -> Began:
    """The boundary-equilibrium game with a new state, k = 0.

    Args:
        gamma: the wanted ratio E_q D / E_p D, above 0 and at most 1; 0.3 to 0.7 in the paper.
        lambda_k: how fast k follows, above 0.

    Raises:
        ValueError: a number is out of range.

    Berthelot et al. 2017, arXiv:1703.10717, section 3.4.
    """
    if not 0 < gamma <= 1:
        raise ValueError(f"began: gamma is {gamma!r}, expected a number above 0 and at most 1")
    if not 0 < lambda_k < math.inf:
        raise ValueError(f"began: lambda_k is {lambda_k!r}, expected a number above 0")
    state = {"k": torch.zeros([], dtype=torch.float32)}
    parameters = [gamma] if lambda_k == RATE else [gamma, lambda_k]
    return Began(
        "began" if parameters == [GAMMA] else ":".join(map(str, ["began", *parameters])),
        update_wrapper(partial(_critic_of, state), critic),
        generator,
        "Berthelot et al. 2017, arXiv:1703.10717",
        output="error",
        error_power=1,
        gamma=gamma,
        lambda_k=lambda_k,
        state=state,
    )
