"""Gradient penalties, and the critic's whole objective at the price of an ordinary step."""

from fastgan.penalties.critic import critic_loss, gradient_penalty
from fastgan.penalties.differentiable import differentiable_critic_loss
from fastgan.penalties.directional import Directional
from fastgan.penalties.errors import NoMethodError, NotSmoothError
from fastgan.penalties.explanation import Explanation, explain
from fastgan.penalties.generator import generator_loss_from
from fastgan.penalties.penalty import DRAGAN, PENALTIES, R1, R2, WGANGP, Penalty, Rho, parse
from fastgan.penalties.result import CriticLoss

__all__ = [
    "DRAGAN",
    "PENALTIES",
    "R1",
    "R2",
    "WGANGP",
    "CriticLoss",
    "Directional",
    "Explanation",
    "NoMethodError",
    "NotSmoothError",
    "Penalty",
    "Rho",
    "critic_loss",
    "differentiable_critic_loss",
    "explain",
    "generator_loss_from",
    "gradient_penalty",
    "parse",
]
