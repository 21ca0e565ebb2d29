"""Drop-in layers over fastgan.ops."""

from fastgan.nn.bias_act import BiasAct
from fastgan.nn.equalized import EqualizedConv2d, EqualizedLinear
from fastgan.nn.instance_noise import InstanceNoise
from fastgan.nn.mapping_network import MappingNetwork
from fastgan.nn.minibatch_discrimination import MinibatchDiscrimination
from fastgan.nn.minibatch_stddev import MinibatchStdDev
from fastgan.nn.modulated_conv2d import ModulatedConv2d, NoiseInjection, StyledConv, ToRGB
from fastgan.nn.reconstruction_error import ReconstructionError
from fastgan.nn.resample import Blur, Downsample, Upsample
from fastgan.nn.spectral_norm import SpectralNorm, spectral_norm
from fastgan.nn.spectral_norm_group import SpectralNormGroup, spectral_norm_

__all__ = [
    "BiasAct",
    "Blur",
    "Downsample",
    "EqualizedConv2d",
    "EqualizedLinear",
    "InstanceNoise",
    "MappingNetwork",
    "MinibatchDiscrimination",
    "MinibatchStdDev",
    "ModulatedConv2d",
    "NoiseInjection",
    "ReconstructionError",
    "SpectralNorm",
    "SpectralNormGroup",
    "StyledConv",
    "ToRGB",
    "Upsample",
    "spectral_norm",
    "spectral_norm_",
]
