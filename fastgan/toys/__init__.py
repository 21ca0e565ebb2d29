"""Small games with known answers: DiracGAN, and mixtures of Gaussians in the plane."""

from fastgan.toys.dirac import DiracRecipe, trajectory, verdict
from fastgan.toys.dirac_recipes import DIRAC_RECIPES

__all__ = ["DIRAC_RECIPES", "DiracRecipe", "trajectory", "verdict"]
