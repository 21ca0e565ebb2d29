"""The names that a program's source uses; on the textbook's side fastgan's norms are torch's own."""

import functools
import types
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.utils.checkpoint import checkpoint

import fastgan
from fastgan import ops
from tests.fuzz import functions

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.Linear, nn.Embedding)


def _directly(function: Callable[..., Any], *args: Any, use_reentrant: bool) -> Any:
    """What a checkpoint computes; a reentrant one cannot be differentiated twice, and says so."""
    return checkpoint(function, *args, use_reentrant=True) if use_reentrant else function(*args)


def _spectral_norm_(root: nn.Module) -> nn.Module:
    """torch's parametrization for every layer, as `fastgan.nn.spectral_norm_` promises it."""
    layers = [m for m in root.modules() if isinstance(m, _LAYERS)]
    for module in [m for m in layers if not _is_normalised(m)]:
        parametrizations.spectral_norm(module)
    if not layers:
        raise ValueError("nothing to normalise")
    return root


def _is_normalised(module: nn.Module) -> bool:
    if not parametrize.is_parametrized(module, "weight"):
        return False
    return any(isinstance(p, _SpectralNorm) for p in module.parametrizations.weight)


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
        # torch's spectral norm iterates once more where it is computed again, and computes another function.
        "checkpoint": _directly if reference else checkpoint,
        "fastgan": fastgan,
        "ops": ops,
        "norms": _TORCH_NORMS if reference else _FASTGAN_NORMS,
        "CHANGED": changed,
        **{penalty.__name__: penalty for penalty in fastgan.penalties.PENALTIES.values()},
        **{name: getattr(functions, name) for name in functions.__all__},
    }
