"""Errors name the function that was called: no public function or layer names another one."""

import inspect
import random

import pytest
import torch
from torch import nn

import fastgan.losses
import fastgan.metrics
import fastgan.nn
import fastgan.ops
import fastgan.penalties
import fastgan.terms

MODULES = (fastgan.ops, fastgan.nn, fastgan.losses, fastgan.metrics, fastgan.penalties, fastgan.terms)
WRONG = (
    None, "x", 3, -1, 2.5, [], (1, 2), torch.zeros(2, 3), torch.zeros(1, 3), torch.zeros(2, 3, 4, 4),
    torch.zeros(2, 3, dtype=torch.int64), torch.zeros(0), torch.zeros(3), nn.Linear(3, 1), lambda x: x,
)  # fmt: skip
TRIALS = 25


def public():
    """Public functions and classes by name, of all rooms."""
    found = {}
    for module in MODULES:
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value) or (inspect.isclass(value) and "__init__" in vars(value)):
                found.setdefault(name, value)
    return found


PUBLIC = public()


def message_of(call, rng):
    """What a call with arguments drawn at random says, if it raises."""
    arguments = {}
    for p in inspect.signature(call).parameters.values():
        named = p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        if named and (p.default is p.empty or rng.random() < 0.3):
            arguments[p.name] = rng.choice(WRONG)
    try:
        call(**arguments)
    except Exception as error:
        return str(error)
    return ""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PUBLIC)
def test_nobody_speaks_as_another(name, seed, one_thread):
    rng = random.Random(seed)
    for _ in range(TRIALS):
        message = message_of(PUBLIC[name], rng)
        speaker = message.split(":")[0].removeprefix("fastgan.ops.").split(" ")[0]
        assert speaker == name or speaker not in PUBLIC, message
