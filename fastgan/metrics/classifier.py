"""The classifier that judges generated digits: small, trained in seconds, always from the same seed."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fastgan.data import digit_labels, digits
from fastgan.default_dtype import float32_by_default

VERSION = 1
"""Raised with every change to the network or its training, so that an old cache is not taken for a new one."""
SEED = 0
HELD_OUT = 360
EPOCHS = 30
BATCH = 64
LR = 1e-3


class DigitClassifier(nn.Module):
    """Two convolutions and a hidden layer, whose 64 outputs are the features that samples are compared by.

    The features are divided by one number, their root mean square on the data, so that the cubic kernel of the kernel
    distance neither drowns in its constant nor is all tail.

    Shape: float32 [B, 1, 8, 8] in [-1, 1] -> features [B, 64]; `classify` -> logits [B, 10].
    """

    rms: Tensor

    num_features = 64  # torchmetrics asks for it

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * 4 * 4, self.num_features),
            nn.ReLU(),
        )
        self.head = nn.Linear(self.num_features, 10)
        self.register_buffer("rms", torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images) / self.rms

    def classify(self, images: Tensor) -> Tensor:
        """Logits [B, 10] of the ten digits."""
        return self.head(self.body(images))


@dataclass(frozen=True)
class Judge:
    """A trained classifier and its accuracy on digits that it has not seen."""

    network: DigitClassifier
    test_accuracy: float


def digit_judge() -> Judge:
    """The classifier from the user's cache, or trained now and kept there; the network is frozen, on the CPU.

    The cache is `$XDG_CACHE_HOME/fastgan`, by default `~/.cache/fastgan`; if it cannot be written, each call trains.
    """
    path = _cache_folder() / f"digits-classifier-{VERSION}.safetensors"
    try:
        return _frozen(*_read(path))
    except (OSError, SafetensorError, KeyError, RuntimeError, ValueError):
        pass  # not there yet, or cut off: it costs seconds to make again
    network, accuracy = train_classifier()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.partial")
        save_file(network.state_dict(), temporary, {"test_accuracy": repr(accuracy)})
        os.replace(temporary, path)
    except (OSError, SafetensorError):
        pass  # a read-only home is no reason to fail
    return _frozen(network, accuracy)


def train_classifier() -> tuple[DigitClassifier, float]:
    """Trains on all digits but 360 and tests on those; leaves PyTorch's global generators as they were.

    Returns:
        The classifier and its test accuracy, between 0 and 1.
    """
    return train_classifier_on(*training_digits())


def train_classifier_on(images: Tensor, labels: Tensor) -> tuple[DigitClassifier, float]:
    """Trains the same classifier in the same way on other images, and tests it on the same 360 real digits.

    Args:
        images: float32 [N, 1, 8, 8] in [-1, 1] on the CPU.
        labels: the digits that they show, int64 [N].

    Returns:
        The classifier and its test accuracy, between 0 and 1.
    """
    real, real_labels = digits().pixels, digit_labels()
    with torch.random.fork_rng(devices=[]):
        network, order = _start()
        test = order[:HELD_OUT]
        optimizer = torch.optim.Adam(network.parameters(), LR)
        for _ in range(EPOCHS):
            for batch in torch.randperm(len(images)).split(BATCH):
                loss = cross_entropy(network.classify(images[batch]), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    with torch.no_grad():
        right = network.classify(real[test]).argmax(1) == real_labels[test]
        network.rms.copy_(network.body(real).square().mean().sqrt())
    return network, right.double().mean().item()


def training_digits() -> tuple[Tensor, Tensor]:
    """The 1,437 digits that are not held out, in a random order: float32 [1437, 1, 8, 8] and their labels [1437]."""
    with torch.random.fork_rng(devices=[]):
        _, order = _start()
    training = order[HELD_OUT:]
    return digits().pixels[training], digit_labels()[training]


def _start() -> tuple[DigitClassifier, Tensor]:
    """A fresh classifier and an order of the digits, whose first 360 are held out.

    Seeds PyTorch's global generator, from which training goes on.
    """
    torch.default_generator.manual_seed(SEED)
    with float32_by_default():
        network = DigitClassifier()
    return network, torch.randperm(len(digit_labels()))


def _frozen(network: DigitClassifier, accuracy: float) -> Judge:
    return Judge(network.eval().requires_grad_(False), accuracy)


def _read(path: Path) -> tuple[DigitClassifier, float]:
    with safe_open(path, framework="pt") as file:
        accuracy = float(file.metadata()["test_accuracy"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    with float32_by_default():
        network = DigitClassifier()
    network.load_state_dict(tensors)
    return network, accuracy


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastgan"
