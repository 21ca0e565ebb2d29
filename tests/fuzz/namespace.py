"""The names that a program's source uses; on the textbook's side fastgan's norms are torch's own."""

import functools
import types
import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.utils.checkpoint import checkpoint

import fastgan
from fastgan import ops
from tests.fuzz import functions

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.Linear, nn.Embedding)


def _spectral_norm_(root: nn.Module) -> nn.Module:
    """torch's parametrization for every layer, as `fastgan.nn.spectral_norm_` promises it."""
    found = [m for m in root.modules() if isinstance(m, _LAYERS) and not parametrize.is_parametrized(m, "weight")]
    for module in found:
        parametrizations.spectral_norm(module)
    if not any(parametrize.is_parametrized(m) for m in root.modules()):
        raise ValueError("nothing to normalise")
    return root


_TORCH_NORMS = types.SimpleNamespace(spectral_norm=parametrizations.spectral_norm, spectral_norm_=_spectral_norm_)
_FASTGAN_NORMS = types.SimpleNamespace(spectral_norm=fastgan.nn.spectral_norm, spectral_norm_=fastgan.nn.spectral_norm_)


def namespace(reference: bool, changed: bool = True) -> dict[str, Any]:
    """Names for `exec`.

    Args:
        reference: for the textbook, with torch's spectral norms.
        changed: whether what a program would change in place between a forward pass and a backward pass is changed.
    """
    return {
        "torch": torch,
        "nn": nn,
        "F": F,
        "functools": functools,
        "warnings": warnings,
        "parametrizations": parametrizations,
        "checkpoint": checkpoint,
        "fastgan": fastgan,
        "ops": ops,
        "norms": _TORCH_NORMS if reference else _FASTGAN_NORMS,
        "CHANGED": changed,
        **{penalty.__name__: penalty for penalty in fastgan.penalties.PENALTIES.values()},
        **{name: getattr(functions, name) for name in functions.__all__},
    }
