"""The settings of a run: complete, checked and writable as JSON."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fastgan.data import DIGITS
from fastgan.errors import UserError
from fastgan.losses import LOSSES
from fastgan.models import PRESETS
from fastgan.penalties import Penalty, parse

CHANGEABLE = frozenset({"out", "steps", "device", "log_every", "sample_every", "save_every", "keep"})
"""What may differ when a run is resumed; anything else would make it another run."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what a training run does. `TrainConfig.for_preset` fills in a preset's recipe.

    Attributes:
        out: the run's folder.
        preset: a name in `fastgan.models.PRESETS`.
        loss: a name in `fastgan.losses.LOSSES`.
        steps: updates of each player, from the start of the run.
        batch_size: images per update, at most the size of the data set.
        lr, lr_critic: learning rates of Adam for the generator and the critic.
        beta1, beta2: Adam's decay rates, for both players.
        ema: decay of the averaged generator per step.
        penalty: the critic's gradient penalties, e.g. `r1:10,r2:10`; empty or `none` for no penalty.
        spectral_norm: whether every convolution and linear layer of the critic is spectrally normalised.
        data: `digits`, `textures` or a folder of images.
        seed: of every random stream: weights, data order, latents, dropout.
        device: `cpu`, `cuda`, `cuda:1`, ..., or `auto` for a GPU if there is one.
        log_every, sample_every, save_every: steps between log lines, sample grids and checkpoints.
        keep: how many checkpoints are kept.

    Raises:
        UserError: a value is out of range; the message names the option as on the command line.
    """

    out: str
    preset: str
    loss: str
    steps: int
    batch_size: int
    lr: float
    lr_critic: float
    beta1: float
    beta2: float
    ema: float
    penalty: str = ""
    spectral_norm: bool = False
    data: str = DIGITS
    seed: int = 0
    device: str = "auto"
    log_every: int = 50
    sample_every: int = 500
    save_every: int = 500
    keep: int = 3

    @classmethod
    def for_preset(cls, preset: str, out: str | Path, **changes: Any) -> "TrainConfig":
        """The preset's recipe, with `changes` to any of the attributes above.

        Raises:
            UserError: there is no such preset, or a value is out of range.
        """
        _one_of("preset", preset, PRESETS)
        recipe = dataclasses.asdict(PRESETS[preset].recipe)
        return cls(**{**recipe, "preset": preset, "out": str(out), **changes})

    def __post_init__(self) -> None:
        _one_of("preset", self.preset, PRESETS)
        _one_of("loss", self.loss, LOSSES)
        for name in ("steps", "batch_size", "log_every", "sample_every", "save_every", "keep"):
            if getattr(self, name) < 1:
                raise _wrong(name, getattr(self, name), "at least 1")
        for name in ("lr", "lr_critic"):
            if not 0 < getattr(self, name) < float("inf"):
                raise _wrong(name, getattr(self, name), "a number above 0")
        for name in ("beta1", "beta2", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise _wrong(name, getattr(self, name), "at least 0 and below 1")
        if not 0 <= self.seed < 2**63:
            raise _wrong("seed", self.seed, "0 to 2^63 - 1")
        _penalties(self.penalty)

    @property
    def penalties(self) -> tuple[Penalty, ...]:
        """The gradient penalties that `penalty` names."""
        return _penalties(self.penalty)

    def resumed(self, **changes: Any) -> "TrainConfig":
        """These settings with the changes that a resumed run may make.

        Raises:
            UserError: a change would make it another run, or a value is out of range.
        """
        for name, value in changes.items():
            stored = getattr(self, name)
            same = _penalties(value) == self.penalties if name == "penalty" else value == stored
            if name not in CHANGEABLE and not same:
                raise UserError(
                    f"{option(name)} is {value!r}, but the run was started with {stored!r}; "
                    "expected the same, or a new --out without --resume"
                )
        return dataclasses.replace(self, **changes)


def option(name: str) -> str:
    """An attribute's name as on the command line: batch_size -> --batch-size."""
    return "--" + name.replace("_", "-")


def choose_device(name: str, argument: str = "--device") -> torch.device:
    """The device that a name stands for; `auto` is a GPU if there is one, else the CPU.

    Raises:
        UserError: it is not the name of a device, or this machine has none such.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UserError(f"{argument} is {name!r}, expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"{argument} is {name!r}, but PyTorch sees {torch.cuda.device_count()} CUDA devices; expected auto or cpu"
        )
    return device


def _wrong(name: str, value: object, expected: str) -> UserError:
    return UserError(f"{option(name)} is {value!r}, expected {expected}")


def _penalties(text: str) -> tuple[Penalty, ...]:
    try:
        return parse(text)
    except ValueError as error:
        raise UserError(f"{option('penalty')} is {text!r}: {error}") from None


def _one_of(name: str, value: str, known: dict[str, Any]) -> None:
    if value not in known:
        raise _wrong(name, value, f"one of {', '.join(known)}")
