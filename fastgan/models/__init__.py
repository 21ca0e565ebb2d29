"""Generators and critics built from fastgan's layers, and the presets that pair them."""

from fastgan.models.auxiliary_classifier import AuxiliaryClassifierCritic
from fastgan.models.dcgan import BatchNormCritic, DCGANCritic, DCGANGenerator
from fastgan.models.preset import Preset, Recipe
from fastgan.models.presets import PRESETS
from fastgan.models.projection import ProjectionCritic
from fastgan.models.resnet import ResNetCritic, ResNetGenerator
from fastgan.models.stylegan2 import StyleGAN2Critic, StyleGAN2Generator

__all__ = [
    "PRESETS",
    "AuxiliaryClassifierCritic",
    "BatchNormCritic",
    "DCGANCritic",
    "DCGANGenerator",
    "Preset",
    "ProjectionCritic",
    "Recipe",
    "ResNetCritic",
    "ResNetGenerator",
    "StyleGAN2Critic",
    "StyleGAN2Generator",
]
