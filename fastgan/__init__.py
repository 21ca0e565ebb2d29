"""Compiled kernels for GAN training in PyTorch, exact to the second derivative.

`fastgan.ops` holds the differentiable functions, `fastgan.nn` the layers over them, `fastgan.train` the loop.
Importing the package starts no CUDA context and imports neither triton nor the training libraries.
"""

from fastgan import nn, ops
from fastgan.backends import BackendError, backend

__version__ = "0.1.0"

__all__ = ["BackendError", "backend", "nn", "ops"]
