"""The base of critics whose last step is a head over one feature vector per image."""

from typing import Any, Protocol, TypeGuard

from torch import Tensor, nn

from fastgan.nn.in_place import changes


class BodyAndHead(nn.Module):
    """A critic of two parts: features of an image [B, num_features], and a head that judges them.

    Args:
        features: the body.
        head: judges its features.
        num_features: how many there are for an image.

    Attributes:
        matched: the submodule whose outputs an objective of a logit and features compares.
    """

    matched = "features"

    def __init__(self, features: nn.Module, head: nn.Module, num_features: int) -> None:
        super().__init__()
        self.features, self.head, self.num_features = features, head, num_features

    def penultimate(self, images: Tensor) -> Tensor:
        """The features of images, [B, num_features], that the head judges."""
        return self.features(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.penultimate(images))


class HeadedCritic(Protocol):
    """A critic whose head judges one vector for each image.

    Attributes:
        num_features: F, the numbers in it.
        head: [B, F] -> [B, 1].
    """

    num_features: int
    head: nn.Module

    def penultimate(self, images: Tensor) -> Tensor:
        """The features of images, [B, F]."""
        ...


def is_headed(critic: Any) -> TypeGuard[HeadedCritic]:
    """Whether this is such a module. (isinstance with a protocol sees no submodules from Python 3.12 on.)"""
    parts = ("penultimate", "head", "num_features")
    return isinstance(critic, nn.Module) and all(hasattr(critic, part) for part in parts)


def headed(owner: str, critic: nn.Module) -> HeadedCritic:
    """The critic, checked to be a `HeadedCritic`.

    Raises:
        TypeError: its last features cannot be had.
    """
    if not is_headed(critic):
        raise TypeError(
            f"{owner}: critic is {type(critic).__name__}, expected a module with `penultimate`, `head` and "
            "`num_features`, as DCGANCritic and ResNetCritic have"
        )
    return critic


def features_and_logits(owner: str, critic: HeadedCritic, images: Tensor) -> tuple[Tensor, Tensor]:
    """The features of images [B, F] and the head's logits [B, 1].

    Raises:
        ValueError: the head gives another number of outputs, which would be broadcast with what is added to it, or
            changes the features in place.
    """
    phi = critic.penultimate(images)
    before = changes(phi)
    logits = critic.head(phi)
    if changes(phi) != before:
        raise ValueError(f"{owner}: the features were changed in place by the critic's head, expected inplace=False")
    if logits.shape[1:] != (1,):
        raise ValueError(f"{owner}: the critic's head gives shape {list(logits.shape)}, expected [{len(images)}, 1]")
    return phi, logits
