"""Generators and critics built from fastgan's layers, and the presets that pair them."""

from fastgan.models.dcgan import BatchNormCritic, DCGANCritic, DCGANGenerator
from fastgan.models.preset import Preset, Recipe
from fastgan.models.presets import PRESETS
from fastgan.models.resnet import ResNetCritic, ResNetGenerator
from fastgan.models.stylegan2 import StyleGAN2Critic, StyleGAN2Generator

__all__ = [
    "PRESETS",
    "BatchNormCritic",
    "DCGANCritic",
    "DCGANGenerator",
    "Preset",
    "Recipe",
    "ResNetCritic",
    "ResNetGenerator",
    "StyleGAN2Critic",
    "StyleGAN2Generator",
]
