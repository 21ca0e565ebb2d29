"""Regularisers other than gradient penalties: functions of parameters and losses."""

from fastgan.regularisers.clip_weights import clip_weights_
from fastgan.regularisers.entropy import GaussianHead, entropy_surrogate, latent_posterior
from fastgan.regularisers.hamiltonian import Chain, hamiltonian_monte_carlo
from fastgan.regularisers.orthogonality import add_orthogonal_gradient_, orthogonal
from fastgan.regularisers.parameter_gradients import parameter_gradient

__all__ = [
    "Chain",
    "GaussianHead",
    "add_orthogonal_gradient_",
    "clip_weights_",
    "entropy_surrogate",
    "hamiltonian_monte_carlo",
    "latent_posterior",
    "orthogonal",
    "parameter_gradient",
]
