"""Compiled kernels for GAN training in PyTorch, exact to the second derivative.

`fastgan.ops` holds the differentiable functions, `fastgan.nn` the layers over them, `fastgan.penalties` the critic's
whole objective with gradient penalties, `fastgan.terms` what else is added to a loss, `fastgan.accelerate` puts
an existing model on them, `fastgan.train` the loop.
Importing the package starts no CUDA context and imports neither triton nor the training libraries.
"""

from fastgan import games, nn, ops, penalties, terms
from fastgan.acceleration import accelerate, accelerated, restore
from fastgan.affine import NotAffineError
from fastgan.backends import BackendError, backend
from fastgan.penalties import NotSmoothError, critic_loss, explain, generator_loss_from, gradient_penalty

__version__ = "0.1.0"

__all__ = [
    "BackendError",
    "NotAffineError",
    "NotSmoothError",
    "accelerate",
    "accelerated",
    "backend",
    "critic_loss",
    "explain",
    "games",
    "generator_loss_from",
    "gradient_penalty",
    "nn",
    "ops",
    "penalties",
    "restore",
    "terms",
]
