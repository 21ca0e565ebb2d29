"""Hamiltonian Monte Carlo: chains of samples, one for each sample of a batch, from densities known up to a constant."""

from collections.abc import Callable
from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor

from fastgan.ops._common.checks import check_count, check_floating, check_number


class Chain(NamedTuple):
    """The result of `hamiltonian_monte_carlo`, detached.

    Attributes:
        samples: [samples, B, ...], the states after the burn-in.
        acceptance: [B], the share of proposals that each chain accepted, the burn-in's included.
        step_size: a scalar, as adapted: where the next call may start.
    """

    samples: Tensor
    acceptance: Tensor
    step_size: Tensor


def hamiltonian_monte_carlo(
    log_density: Callable[[Tensor], Tensor],
    z: Tensor,
    step_size: float | Tensor,
    *,
    samples: int = 2,
    burn_in: int = 2,
    leapfrog_steps: int = 5,
    target_acceptance: float = 0.67,
    adaption_rate: float = 0.02,
    generator: torch.Generator | None = None,
) -> Chain:
    """Runs a Markov chain from each sample of z, with exp(log_density) as its stationary density.

        p ~ N(0, I),   (z', p') = leapfrog(z, p),   accepted with probability min(1, exp(H(z, p) - H(z', p')))

    with H(z, p) = -log_density(z) + ||p||² / 2. During the burn-in the step size, which all chains share, grows by the
    factor 1 + adaption_rate (mean acceptance - target_acceptance) after each proposal. Nothing waits for the GPU.

    Args:
        log_density: [B, ...] -> [B], up to a constant, differentiable; each entry a function of its own sample alone.
        z: [B, ...], where the chains start; detached.
        step_size: of the leapfrog integrator, above 0; a tensor is not checked, as that would wait for it.
        samples: how many states are returned, at least 1.
        burn_in: proposals before them, at least 0.
        leapfrog_steps: of a proposal, at least 1; each takes one gradient.
        target_acceptance: from 0 to 1.
        adaption_rate: 0 for a step size that stays.
        generator: for the momenta and the acceptance, on the device of z; None for the global one.

    Raises:
        TypeError: z is no floating-point tensor.
        ValueError: a number is out of its range, z has no dimension beside the batch, or log_density does not give one
            number for each sample.

    Neal 2011, arXiv:1206.1901, section 5.3.2; the adaption and the default numbers are those of the authors' code of
    Dieng et al. 2019, arXiv:1910.04302.
    """
    owner = "hamiltonian_monte_carlo"
    check_floating(owner, "z", z)
    if z.ndim < 2:
        raise ValueError(f"{owner}: z has shape {list(z.shape)}, expected [batch, ...]")
    check_count(owner, "samples", samples)
    check_count(owner, "leapfrog_steps", leapfrog_steps)
    check_number(owner, "target_acceptance", target_acceptance)
    check_number(owner, "adaption_rate", adaption_rate)
    if not isinstance(burn_in, Integral) or burn_in < 0:
        raise ValueError(f"{owner}: burn_in is {burn_in!r}, expected an integer of at least 0")
    if not isinstance(step_size, Tensor):
        check_number(owner, "step_size", step_size, above=True)

    def draw(like: Tensor, distribution: Callable[..., Tensor]) -> Tensor:
        return distribution(like.shape, dtype=like.dtype, device=like.device, generator=generator)

    step = torch.as_tensor(step_size, dtype=z.dtype, device=z.device).detach()
    state = _differentiate(log_density, z.detach())
    kept, accepted = [], torch.zeros(z.shape[:1], dtype=z.dtype, device=z.device)
    for i in range(burn_in + samples):
        p = draw(state.z, torch.randn)
        proposal, new_p = _leapfrog(log_density, state, p, step, leapfrog_steps)
        energy, new_energy = _energy(state, p), _energy(proposal, new_p)
        # Where the proposal has no density (NaN), the comparison is false and it is refused.
        accept = draw(energy, torch.rand).log() < energy - new_energy
        state = _choose(accept, proposal, state)
        accepted += accept
        if i < burn_in:
            step = step * (1 + adaption_rate * (accept.to(z.dtype).mean() - target_acceptance))
        else:
            kept.append(state.z)
    return Chain(torch.stack(kept), accepted / (burn_in + samples), step)


class _State(NamedTuple):
    """The chains' positions [B, ...], the log density there [B], and its gradient [B, ...]."""

    z: Tensor
    value: Tensor
    gradient: Tensor


def _differentiate(log_density: Callable[[Tensor], Tensor], z: Tensor) -> _State:
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        value = log_density(z)
        if value.shape != z.shape[:1]:
            raise ValueError(
                f"hamiltonian_monte_carlo: log_density has shape {list(value.shape)}, expected [{z.shape[0]}], one "
                "number for each sample"
            )
        (gradient,) = torch.autograd.grad(value.sum(), z)
    return _State(z.detach(), value.detach(), gradient)


def _leapfrog(
    log_density: Callable[[Tensor], Tensor], state: _State, p: Tensor, step: Tensor, steps: int
) -> tuple[_State, Tensor]:
    """Half a step of the momentum, `steps` of the position with full ones between, and half a step again."""
    p = p + step / 2 * state.gradient
    for i in range(steps):
        state = _differentiate(log_density, state.z + step * p)
        p = p + (step if i < steps - 1 else step / 2) * state.gradient
    return state, p


def _energy(state: _State, p: Tensor) -> Tensor:
    return p.square().flatten(1).sum(1) / 2 - state.value


def _choose(accept: Tensor, new: _State, old: _State) -> _State:
    wide = accept.view(-1, *[1] * (new.z.ndim - 1))
    return _State(
        torch.where(wide, new.z, old.z),
        torch.where(accept, new.value, old.value),
        torch.where(wide, new.gradient, old.gradient),
    )
