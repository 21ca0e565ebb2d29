"""Drop-in layers over fastgan.ops."""

from fastgan.nn.batch_renorm import BatchRenorm1d, BatchRenorm2d
from fastgan.nn.bias_act import BiasAct
from fastgan.nn.conditional_batch_norm import ConditionalBatchNorm2d
from fastgan.nn.equalized import EqualizedConv2d, EqualizedLinear
from fastgan.nn.instance_noise import InstanceNoise
from fastgan.nn.logit_and_features import LogitAndFeatures
from fastgan.nn.mapping_network import MappingNetwork
from fastgan.nn.minibatch_discrimination import MinibatchDiscrimination
from fastgan.nn.minibatch_stddev import MinibatchStdDev
from fastgan.nn.modulated_conv2d import ModulatedConv2d, NoiseInjection, StyledConv, ToRGB
from fastgan.nn.packing import PackedCritic, pack, unpack
from fastgan.nn.reconstruction_error import ReconstructionError
from fastgan.nn.resample import Blur, Downsample, Upsample
from fastgan.nn.self_attention import SelfAttention2d
from fastgan.nn.spectral_norm_group import SpectralNormGroup, spectral_norm_
from fastgan.nn.spectral_normalisation import SpectralNorm, spectral_norm
from fastgan.nn.split_batch_norm import SplitBatchNorm2d, fake_statistics, statistics_of
from fastgan.nn.virtual_batch_norm import VirtualBatchNorm, reference_batch, set_reference_batch

__all__ = [
    "BatchRenorm1d",
    "BatchRenorm2d",
    "BiasAct",
    "Blur",
    "ConditionalBatchNorm2d",
    "Downsample",
    "EqualizedConv2d",
    "EqualizedLinear",
    "InstanceNoise",
    "LogitAndFeatures",
    "MappingNetwork",
    "MinibatchDiscrimination",
    "MinibatchStdDev",
    "ModulatedConv2d",
    "NoiseInjection",
    "PackedCritic",
    "ReconstructionError",
    "SelfAttention2d",
    "SpectralNorm",
    "SpectralNormGroup",
    "SplitBatchNorm2d",
    "StyledConv",
    "ToRGB",
    "Upsample",
    "VirtualBatchNorm",
    "fake_statistics",
    "pack",
    "reference_batch",
    "set_reference_batch",
    "spectral_norm",
    "spectral_norm_",
    "statistics_of",
    "unpack",
]
