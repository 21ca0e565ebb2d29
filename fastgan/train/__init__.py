"""Training, resuming and sampling; `fastgan.train.train` is the place to start."""

from fastgan.train.config import TrainConfig
from fastgan.train.critics import TrainedCritic, load_critic
from fastgan.train.interpolation import slerp
from fastgan.train.run import TrainResult, resume, train
from fastgan.train.sampling import TrainedGenerator, load_generator, training_images

__all__ = [
    "TrainConfig",
    "TrainResult",
    "TrainedCritic",
    "TrainedGenerator",
    "load_critic",
    "load_generator",
    "resume",
    "slerp",
    "train",
    "training_images",
]
