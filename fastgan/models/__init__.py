"""Generators and critics built from fastgan's layers; recipes call them by the names in `GENERATORS` and `CRITICS`."""

from collections.abc import Callable

from torch import nn

from fastgan.models.auxiliary_classifier import AuxiliaryClassifierCritic
from fastgan.models.critic_norms import CRITIC_NORMS, ReferencedCritic, replace_batch_norm
from fastgan.models.cycle_gan import PatchCritic, TranslationGenerator
from fastgan.models.dcgan import BatchNormCritic, DCGANCritic, DCGANGenerator
from fastgan.models.perceptron import PointCritic, PointGenerator
from fastgan.models.projection import ProjectionCritic
from fastgan.models.resnet import ResNetCritic, ResNetGenerator
from fastgan.models.stylegan2 import StyleGAN2Critic, StyleGAN2Generator

GENERATORS: dict[str, Callable[..., nn.Module]] = {
    "dcgan": DCGANGenerator,
    "resnet": ResNetGenerator,
    "stylegan2": StyleGAN2Generator,
}
"""Generators of images from latents, made of `channels`, `resolution` and numbers of their own."""

CRITICS: dict[str, Callable[..., nn.Module]] = {
    "dcgan": DCGANCritic,
    "dcgan-batch-norm": BatchNormCritic,
    "resnet": ResNetCritic,
    "stylegan2": StyleGAN2Critic,
}
"""Critics of images, likewise, with `outputs` besides: numbers that they give for an image."""

__all__ = [
    "CRITICS",
    "CRITIC_NORMS",
    "GENERATORS",
    "AuxiliaryClassifierCritic",
    "BatchNormCritic",
    "DCGANCritic",
    "DCGANGenerator",
    "PatchCritic",
    "PointCritic",
    "PointGenerator",
    "ProjectionCritic",
    "ReferencedCritic",
    "ResNetCritic",
    "ResNetGenerator",
    "StyleGAN2Critic",
    "StyleGAN2Generator",
    "TranslationGenerator",
    "replace_batch_norm",
]
