"""Replaces spectral norms, torch's (both kinds) and known code bases', by one call per forward pass of a model."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.spectral_norm import SpectralNorm as TorchHook

from fastgan._torch_private import TorchSpectralNorm
from fastgan.acceleration.convolutions import CONVOLUTIONS
from fastgan.acceleration.foreign_spectral_norms import NORM_KINDS, is_ours, replaced_kind, replacement
from fastgan.acceleration.report import AccelerationReport, LayerReport
from fastgan.acceleration.substitute import base_class, substitute, take_back
from fastgan.nn.spectral_norm_ahead import Operands, normalised
from fastgan.nn.spectral_norm_group import SpectralNormGroup, parametrized
from fastgan.nn.spectral_normalisation import SpectralNorm

BECAME = "spectral_norm, one call for the model"


class Adopted(SpectralNorm):
    """torch's parametrization, run by fastgan's op while the model is accelerated."""


Adopted.__name__ = TorchSpectralNorm.__name__  # the repr of a model stays the same


class Hook(TorchHook):
    """The hook of torch.nn.utils.spectral_norm, run by fastgan's op."""

    def compute_weight(self, module: nn.Module, do_power_iteration: bool) -> Tensor:
        return normalised(self.operands(module, do_power_iteration))[0]

    def operands(self, module: nn.Module, do_power_iteration: bool) -> Operands:
        weight, u, v = (getattr(module, f"{self.name}{suffix}") for suffix in ("_orig", "_u", "_v"))
        iterations = self.n_power_iterations if do_power_iteration else 0
        return Operands(module, self.name, weight, u, v, self.dim, iterations, self.eps, True, iterations > 0)


# --- swapping ------------------------------------------------------------------------------------------------------


def find(layer: nn.Module) -> Iterator[Operands]:
    """The normalised weights of a layer of an accelerated model."""
    yield from parametrized(layer, Adopted)
    for hook in layer._forward_pre_hooks.values():
        if type(hook) is Hook:
            yield hook.operands(layer, layer.training)
    kind = replaced_kind(layer)
    if kind is not None and is_ours(layer):
        yield kind.operands(layer)


class Group(SpectralNormGroup):
    """A group made by `accelerate`, which `restore` removes."""


def _open_modules(model: nn.Module) -> Iterator[nn.Module]:
    """All modules but those that TorchScript has compiled."""
    return (module for module in model.modules() if not isinstance(module, torch.jit.ScriptModule))


def swap_spectral_norms(model: nn.Module, report: AccelerationReport) -> None:
    take_back_groups(model)
    for path, layer in model.named_modules():
        if isinstance(layer, torch.jit.ScriptModule):
            continue
        if parametrize.is_parametrized(layer):
            _swap_parametrizations(path, layer, report)
        for hook in layer._forward_pre_hooks.values():
            if type(hook) in (TorchHook, Hook):
                _swap_hook(path, layer, hook, report)
        _swap_foreign(path, layer, report)
    if any(True for layer in _open_modules(model) for _ in find(layer)):
        Group(model, find)


def _swap_parametrizations(path: str, layer: Any, report: AccelerationReport) -> None:
    for name, parametrization in layer.parametrizations.items():
        for i, norm in enumerate(parametrization):
            if type(norm) not in (TorchSpectralNorm, Adopted):
                continue
            became: str | None = BECAME
            reason = "already" if type(norm) is Adopted else ""
            if len(parametrization) > 1:  # whose tensor may be made of several
                became, reason = None, "one of several parametrizations"
            elif parametrization.original.ndim < 2:
                became, reason = None, "a vector's norm is no power iteration"
            elif not reason:
                norm.__class__ = Adopted
            inside = ".".join(part for part in (path, "parametrizations", name, str(i)) if part)
            report.add(inside, norm, "parametrizations.spectral_norm", became, reason)


def _swap_hook(path: str, layer: nn.Module, hook: Any, report: AccelerationReport) -> None:
    became: str | None = BECAME
    reason = "already" if type(hook) is Hook else ""
    if getattr(layer, f"{hook.name}_orig").ndim < 2:
        became, reason = None, "a vector's norm is no power iteration"
    elif not reason:
        hook.__class__ = Hook
    report.rows.append(LayerReport(path, "nn.utils.spectral_norm", became, reason))


def _swap_foreign(path: str, layer: nn.Module, report: AccelerationReport) -> None:
    original = base_class(layer)
    kind = replaced_kind(layer) or next((kind for kind in NORM_KINDS if kind.suggested(layer)), None)
    if kind is None:
        return
    became: str | None = BECAME
    reason = "already"
    if replaced_kind(layer) is None:
        found, reason = replacement(layer, kind)
        became = None if found is None else BECAME
        if found is not None:
            substitute(layer, found)
    row = LayerReport(path, original.__name__, became, reason)
    if issubclass(original, tuple(CONVOLUTIONS)):
        report.rows.append(row)  # what becomes of its convolution, name_leftovers says
    else:
        report.add(path, layer, row.kind, became, reason)


def take_back_groups(model: nn.Module) -> None:
    """Removes the groups that `accelerate` made of this model or of parts of it."""
    for module in _open_modules(model):
        for hook in list(module._forward_pre_hooks.values()):
            group = getattr(hook, "__self__", None)
            if isinstance(group, Group):
                group.remove()


def take_back_spectral_norms(model: nn.Module) -> None:
    """Undoes `swap_spectral_norms`."""
    take_back_groups(model)
    for layer in _open_modules(model):
        _give_class_back(layer, Adopted, TorchSpectralNorm)
        for hook in layer._forward_pre_hooks.values():
            _give_class_back(hook, Hook, TorchHook)
        if replaced_kind(layer) is not None:
            take_back(layer)


def _give_class_back(adopted: Any, kind: type, before: type) -> None:
    if type(adopted) is kind:
        adopted.__class__ = before
