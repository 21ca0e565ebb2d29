"""Unrolled GANs: gradients of the generator through steps of the critic (Metz et al. 2017, arXiv:1611.02163)."""

from fastgan.unrolling.optimizers import SGD, Adam, InnerOptimizer
from fastgan.unrolling.unrolled import steps_ahead, unrolled_critic, unrolled_generator_loss

__all__ = ["SGD", "Adam", "InnerOptimizer", "steps_ahead", "unrolled_critic", "unrolled_generator_loss"]
