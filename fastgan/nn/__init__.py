"""Drop-in layers over fastgan.ops."""

from fastgan.nn.bias_act import BiasAct
from fastgan.nn.minibatch_discrimination import MinibatchDiscrimination
from fastgan.nn.resample import Blur, Downsample, Upsample
from fastgan.nn.spectral_norm import SpectralNorm, spectral_norm
from fastgan.nn.spectral_norm_group import SpectralNormGroup, spectral_norm_

__all__ = [
    "BiasAct",
    "Blur",
    "Downsample",
    "MinibatchDiscrimination",
    "SpectralNorm",
    "SpectralNormGroup",
    "Upsample",
    "spectral_norm",
    "spectral_norm_",
]
