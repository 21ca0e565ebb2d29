"""What a GAN's critic makes of images: the features that its last layer judges."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from fastgan.errors import UserError
from fastgan.models.critic_norms import ReferencedCritic
from fastgan.models.headed import is_headed
from fastgan.nn import PackedCritic
from fastgan.ops._common.checks import check_shape
from fastgan.tasks.gan import GAN
from fastgan.tasks.sampling import in_parts, place_of


def critic_features(task: GAN, images: Tensor) -> Tensor:
    """The penultimate layer's outputs, which the critic's head judges: float32 [N, F] on the CPU.

    Each is of one image, but for StyleGAN2: its critic compares the images of a group first, so that features depend a
    little on the images beside. The critic is run in evaluation mode, without noise and dropout, on batches of 256.
    Where it is an autoencoder, the head is the layer that makes the code.

    Args:
        task: whose critic, somewhere within noise, labels or an autoencoder, has a head.
        images: float32 [N, C, H, W] in [-1, 1] of the task's shape, N at least 1.

    Raises:
        UserError: the critic judges packs, whose features are not of one image, or has no head.
        TypeError, ValueError: the images are of another dtype or shape.
    """
    critic = task.critics["critic"]
    head = _headed(critic)
    check_shape("critic_features", "images", images, ("N", *(task.needs["image"].shape or ())))
    if not len(images):
        raise ValueError(f"critic_features: images has shape {list(images.shape)}, expected at least one image")
    device, dtype = place_of(critic)
    referenced = [module for module in critic.modules() if isinstance(module, ReferencedCritic)]
    was_training = critic.training
    critic.eval()
    try:
        with torch.no_grad(), referenced[0].referenced() if referenced else nullcontext():
            return in_parts(head.penultimate, device, images.to(dtype))
    finally:
        critic.train(was_training)


def _headed(critic: torch.nn.Module) -> Any:
    if isinstance(critic, PackedCritic):
        raise UserError(
            f"CHECKPOINT holds a critic of packs of {critic.m}, whose features are of whole packs; expected a run "
            "without task.pack"
        )
    found = next((module for module in critic.modules() if is_headed(module)), None)
    if found is None:
        raise UserError(
            "CHECKPOINT holds a critic that has no penultimate layer; expected one with `penultimate`, `head` and "
            "`num_features`"
        )
    return found
