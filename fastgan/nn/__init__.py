"""Drop-in layers over fastgan.ops."""

from fastgan.nn.bias_act import BiasAct
from fastgan.nn.minibatch_discrimination import MinibatchDiscrimination
from fastgan.nn.minibatch_stddev import MinibatchStdDev
from fastgan.nn.spectral_norm import SpectralNorm, spectral_norm
from fastgan.nn.spectral_norm_group import SpectralNormGroup, spectral_norm_

__all__ = [
    "BiasAct",
    "MinibatchDiscrimination",
    "MinibatchStdDev",
    "SpectralNorm",
    "SpectralNormGroup",
    "spectral_norm",
    "spectral_norm_",
]
