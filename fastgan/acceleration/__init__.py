"""Puts an existing PyTorch model on fastgan's layers and functions, and takes it back."""

from fastgan.acceleration.functions import accelerated
from fastgan.acceleration.model import accelerate, restore
from fastgan.acceleration.report import AccelerationReport

__all__ = ["AccelerationReport", "accelerate", "accelerated", "restore"]
