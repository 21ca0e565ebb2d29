"""The critic of AC-GAN: one body with two heads, of which one judges an image and the other names its class."""

import torch
from torch import Tensor, nn

from fastgan.models.headed import features_and_logits, headed
from fastgan.ops._common.checks import check_count


class AuxiliaryClassifierCritic(nn.Module):
    """A critic with a second head: the logit of being data, then the logits of the n classes.

    Args:
        critic: whose features both heads see.
        num_classes: n.

    Shape: images [B, C, H, W] -> [B, 1 + n]

    Raises:
        TypeError: the critic's features cannot be had.
        ValueError: num_classes is below 1; in forward, the critic's head gives several numbers.

    Odena et al. 2017, arXiv:1610.09585, section 3; its objective is `fastgan.losses.auxiliary_classifier`.
    """

    def __init__(self, critic: nn.Module, num_classes: int) -> None:
        super().__init__()
        check_count("AuxiliaryClassifierCritic", "num_classes", num_classes)
        self.critic = headed("AuxiliaryClassifierCritic", critic)
        self.classifier = nn.Linear(self.critic.num_features, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        phi, logits = features_and_logits("AuxiliaryClassifierCritic", self.critic, images)
        return torch.cat([logits, self.classifier(phi)], dim=1)
