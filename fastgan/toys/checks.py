"""Checks of a small game's settings; errors speak of the options of `fastgan play`."""

import math

import torch
from torch.optim import SGD

from fastgan import games
from fastgan.errors import UserError, wrong
from fastgan.losses import parse as parse_loss
from fastgan.penalties import parse as parse_penalties

LACKS = {"error": "is no autoencoder", "logit and features": "gives one number for each point"}
"""Why the critics of small games give no such output."""


def check_loss(text: str, outputs: int) -> None:
    """Raises UserError unless the text is an objective of a critic that gives one number for each point.

    Args:
        text: as `fastgan.losses.parse` reads it.
        outputs: how many numbers there are of data, and of samples, in an update.
    """
    try:
        loss = parse_loss(text)
    except ValueError as error:
        raise UserError(f"--loss is {error}") from None
    if loss.output in LACKS:
        raise wrong("--loss", text, f"an objective of logits or of features: the critic here {LACKS[loss.output]}")
    trial = torch.zeros(outputs, 1)
    try:
        loss.critic(trial, trial)
    except ValueError as error:  # it compares points with each other, and there is one
        raise UserError(f"--loss is {text!r}: {error}") from None


def check_penalty(text: str) -> bool:
    """Returns whether there is a penalty; raises UserError unless `fastgan.penalties.parse` reads the text."""
    try:
        return bool(parse_penalties(text))
    except ValueError as error:
        raise UserError(f"--penalty is {text!r}: {error}") from None


def trial_game(text: str) -> games.Game:
    """A game of one number for each player, which shows whether its settings are accepted.

    Raises:
        UserError: `fastgan.games.parse` does not read the text, or a setting is out of range.
    """
    try:
        method = games.parse(text)
    except ValueError as error:
        raise UserError(f"--game is {error}") from None
    try:
        return method(*(SGD([torch.zeros(1, requires_grad=True)], 1.0) for _ in range(2)))
    except ValueError as error:
        raise UserError(f"--game is {text!r}: {error}") from None


def check_lr(name: str, lr: float) -> None:
    """Raises UserError unless it is a learning rate."""
    if not 0 < lr < math.inf:
        raise wrong(f"--{name}", lr, "a number above 0")
