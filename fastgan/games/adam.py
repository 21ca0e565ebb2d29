"""ExtraAdam and OptimisticAdam: the game optimisers that are known by their Adam form."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.optim import Adam

from fastgan.games.extragradient import Extragradient
from fastgan.games.optimistic import Optimistic

ParamGroups = Iterable[Tensor] | Iterable[dict[str, Any]]


def ExtraAdam(  # noqa: N802 (named like the optimiser it is)
    critic: ParamGroups,
    generator: ParamGroups,
    lr: float = 1e-4,
    lr_critic: float | None = None,
    betas: tuple[float, float] = (0.5, 0.9),
    eps: float = 1e-8,
) -> Extragradient:
    """The extragradient method with two Adam optimisers.

    Args:
        critic, generator: the players' parameters, or param groups.
        lr: learning rate of the generator, and of the critic if `lr_critic` is None.
        lr_critic: learning rate of the critic.
        betas, eps: Adam's, for both players.

    Gidel et al. 2019, arXiv:1802.10551, algorithm 4.
    """
    return Extragradient(*_adams(critic, generator, lr, lr_critic, betas, eps))


def OptimisticAdam(  # noqa: N802
    critic: ParamGroups,
    generator: ParamGroups,
    lr: float = 1e-4,
    lr_critic: float | None = None,
    betas: tuple[float, float] = (0.5, 0.9),
    eps: float = 1e-8,
) -> Optimistic:
    """Optimistic Adam; arguments as `ExtraAdam`.

    Daskalakis et al. 2018, arXiv:1711.00141, algorithm 1.
    """
    return Optimistic(*_adams(critic, generator, lr, lr_critic, betas, eps))


def _adams(
    critic: ParamGroups,
    generator: ParamGroups,
    lr: float,
    lr_critic: float | None,
    betas: tuple[float, float],
    eps: float,
) -> tuple[Adam, Adam]:
    return Adam(critic, lr if lr_critic is None else lr_critic, betas, eps), Adam(generator, lr, betas, eps)
