"""What a side's loss may have besides its objective and gradient penalties: functions of networks and parameters."""

from fastgan.terms.clip_weights import clip_weights_
from fastgan.terms.entropy import GaussianHead, entropy_surrogate, latent_posterior
from fastgan.terms.hamiltonian import Chain, hamiltonian_monte_carlo
from fastgan.terms.orthogonality import add_orthogonal_gradient_, orthogonal
from fastgan.terms.parameter_gradients import parameter_gradient
from fastgan.terms.path_lengths import PathLength, path_length

__all__ = [
    "Chain",
    "GaussianHead",
    "PathLength",
    "add_orthogonal_gradient_",
    "clip_weights_",
    "entropy_surrogate",
    "hamiltonian_monte_carlo",
    "latent_posterior",
    "orthogonal",
    "parameter_gradient",
    "path_length",
]
