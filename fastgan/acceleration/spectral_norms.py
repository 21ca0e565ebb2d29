"""Spectral norms of torch (both kinds) and of well-known code bases, all of a model by one call per forward pass."""

import copy
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm as TorchHook

from fastgan.acceleration.report import Report, Row
from fastgan.acceleration.substitute import base_class
from fastgan.errors import one_line
from fastgan.nn.spectral_norm import Prepared, SpectralNorm, computed_again
from fastgan.nn.spectral_norm_group import Member, SpectralNormGroup, parametrized
from fastgan.ops.spectral_norm import spectral_norm

TOLERANCE = 1e-9
BECAME = "spectral_norm, one call for the model"


class Adopted(SpectralNorm):
    """torch's parametrization that is fastgan's for as long as the model is accelerated."""


Adopted.__name__ = _SpectralNorm.__name__  # the repr of a model stays the same


class Hook(TorchHook):
    """The hook of torch.nn.utils.spectral_norm, by the fused op."""

    prepared: Prepared | None = None
    """Where the group leaves the weight."""

    def compute_weight(self, module: nn.Module, do_power_iteration: bool) -> Tensor:
        weight = getattr(module, f"{self.name}_orig")
        if self.prepared is not None and do_power_iteration == module.training:
            found = self.prepared.take(weight, again=not do_power_iteration)
            if found is not None:
                return found
        member = self.member(module, do_power_iteration)
        (normalised,), _ = spectral_norm(
            [weight], [member.u], [member.v], n_power_iterations=member.iterations, eps=self.eps, dims=self.dim,
            v_first=True,
        )  # fmt: skip
        return normalised

    def member(self, module: nn.Module, do_power_iteration: bool) -> Member:
        weight, u, v = (getattr(module, f"{self.name}{suffix}") for suffix in ("_orig", "_u", "_v"))
        iterations = self.n_power_iterations if do_power_iteration and not computed_again() else 0

        def deliver(found: tuple[Tensor, Tensor] | None) -> None:
            if self.prepared is None:
                self.prepared = Prepared()
            self.prepared.put(None if found is None else (weight, found[0]))

        return Member(weight, u, v, self.dim, iterations, self.eps, True, deliver)


# --- layers of other code bases ------------------------------------------------------------------------------------


class Foreign:
    """A layer that normalises its own weight: what its buffers and attributes are called.

    Both known kinds keep u of shape [1, rows], compute v from it first, and make an iteration in eval mode too, whose
    u they forget.
    """

    def __init__(self, method: str, u: str, sigma: str, iterations: str, repeats_in_eval: bool) -> None:
        self.method, self.u, self.sigma, self.iterations = method, u, sigma, iterations
        self.repeats_in_eval = repeats_in_eval

    def recognises(self, layer: nn.Module) -> bool:
        weight, buffers = layer._parameters.get("weight"), layer._buffers
        u = buffers.get(self.u)
        return (
            weight is not None
            and weight.ndim > 1
            and u is not None
            and u.shape == (1, weight.shape[0])
            and buffers.get(self.sigma) is not None
            and callable(getattr(type(layer), self.method, None))
            and isinstance(getattr(layer, self.iterations, None), int)
            and isinstance(getattr(layer, "eps", None), float)
            and getattr(layer, "num_svs", 1) == 1
            and not getattr(layer, "transpose", False)
        )

    def member(self, layer: Any) -> Member:
        weight, buffer, training = layer.weight, layer._buffers[self.u], layer.training
        u = buffer[0] if training else buffer[0].clone()
        iterations = getattr(layer, self.iterations) if training or self.repeats_in_eval else 1
        v = weight.new_empty(weight.numel() // weight.shape[0])  # written before it is read

        def deliver(found: tuple[Tensor, Tensor] | None) -> None:
            if found is not None and training:
                with torch.no_grad():
                    layer._buffers[self.sigma].fill_(found[1].detach())
            layer.__dict__["_fastgan_ready"] = None if found is None else (weight, found[0])

        return Member(weight, u, v, 0, iterations, layer.eps, True, deliver)

    def weight(self, layer: Any) -> Tensor:
        """What the layer's own method returns."""
        ready = layer.__dict__.pop("_fastgan_ready", None)
        if ready is None or ready[0] is not layer.weight:
            m = self.member(layer)
            (normalised,), (sigma,) = spectral_norm(
                [m.weight], [m.u], [m.v], n_power_iterations=m.iterations, eps=m.eps, v_first=True
            )
            m.deliver((normalised, sigma))
            ready = layer.__dict__.pop("_fastgan_ready")
        return ready[1]


MIMICRY = Foreign("sn_weights", "sn_u", "sn_sigma", "num_iters", repeats_in_eval=True)
BIGGAN = Foreign("W_", "u0", "sv0", "num_itrs", repeats_in_eval=False)


def _sn_weights(layer: nn.Module) -> Tensor:
    return MIMICRY.weight(layer)


def _W_(layer: nn.Module) -> Tensor:  # noqa: N802 (the name of the method that it replaces)
    return BIGGAN.weight(layer)


_FOREIGN = ((MIMICRY, _sn_weights), (BIGGAN, _W_))


def _replaced(layer: nn.Module, kind: Foreign, function: Any) -> bool:
    return getattr(layer.__dict__.get(kind.method), "func", None) is function


def _verified(layer: nn.Module, kind: Foreign, function: Any) -> str:
    """Empty if the replacement gives the layer's weights, buffers and gradients, on copies in float64; else why not."""
    try:
        theirs: Any = copy.deepcopy(layer).to("cpu", torch.float64)
        ours: Any = copy.deepcopy(theirs)
        setattr(ours, kind.method, partial(function, ours))
        generator, worst = torch.Generator().manual_seed(0), 0.0
        for training in (True, True, False):
            results = []
            cotangent = torch.randn(theirs.weight.shape, generator=generator, dtype=torch.float64)
            for each in (theirs.train(training), ours.train(training)):
                with torch.enable_grad():
                    normalised = getattr(each, kind.method)()
                    (gradient,) = torch.autograd.grad(normalised, each.weight.requires_grad_(), cotangent)
                results.append([normalised.detach(), gradient, *each.buffers()])
            differences = [float((a - b).abs().max() / (1 + a.abs().max())) for a, b in zip(*results, strict=True)]
            worst = max(worst, *differences)
    except Exception as error:
        return f"could not be run on a copy in float64: {one_line(error)}"
    return "" if worst <= TOLERANCE else f"looks like a spectral norm but computes something else (by {worst:.1g})"


# --- swapping ------------------------------------------------------------------------------------------------------


def find(layer: nn.Module) -> Iterator[Member]:
    """The normalised weights of a layer of an accelerated model."""
    yield from parametrized(layer, Adopted)
    for hook in layer._forward_pre_hooks.values():
        if type(hook) is Hook:
            yield hook.member(layer, layer.training)
    for kind, function in _FOREIGN:
        if _replaced(layer, kind, function):
            yield kind.member(layer)


class Group(SpectralNormGroup):
    """The group that `accelerate` made, and `restore` removes."""


def _open_modules(model: nn.Module) -> Iterator[nn.Module]:
    """All modules but those that TorchScript has compiled."""
    return (module for module in model.modules() if not isinstance(module, torch.jit.ScriptModule))


def swap_spectral_norms(model: nn.Module, report: Report) -> None:
    take_back_groups(model)
    for path, layer in model.named_modules():
        if isinstance(layer, torch.jit.ScriptModule):
            continue
        if parametrize.is_parametrized(layer):
            _swap_parametrizations(path, layer, report)
        for hook in layer._forward_pre_hooks.values():
            if type(hook) in (TorchHook, Hook):
                _swap_hook(path, layer, hook, report)
        for kind, function in _FOREIGN:
            if kind.recognises(layer):
                _swap_foreign(path, layer, kind, function, report)
    if any(True for layer in _open_modules(model) for _ in find(layer)):
        Group(model, find)


def _swap_parametrizations(path: str, layer: Any, report: Report) -> None:
    for name, parametrization in layer.parametrizations.items():
        for i, norm in enumerate(parametrization):
            if type(norm) not in (_SpectralNorm, Adopted):
                continue
            became: str | None = BECAME
            reason = "already" if type(norm) is Adopted else ""
            if parametrization.original.ndim < 2:
                became, reason = None, "a vector's norm is no power iteration"
            elif len(parametrization) > 1:
                became, reason = None, "one of several parametrizations"
            elif not reason:
                norm.__class__ = Adopted
            inside = ".".join(part for part in (path, "parametrizations", name, str(i)) if part)
            report.add(inside, norm, "parametrizations.spectral_norm", became, reason)


def _swap_hook(path: str, layer: nn.Module, hook: Any, report: Report) -> None:
    became: str | None = BECAME
    reason = "already" if type(hook) is Hook else ""
    if getattr(layer, f"{hook.name}_orig").ndim < 2:
        became, reason = None, "a vector's norm is no power iteration"
    elif not reason:
        hook.__class__ = Hook
    report.rows.append(Row(path, "nn.utils.spectral_norm", became, reason))


def _swap_foreign(path: str, layer: nn.Module, kind: Foreign, function: Any, report: Report) -> None:
    name = base_class(layer).__name__
    if _replaced(layer, kind, function):
        report.add(path, layer, name, BECAME, "already")
        return
    reason = "its instance has a method of its own" if kind.method in layer.__dict__ else ""
    reason = reason or _verified(layer, kind, function)
    if not reason:
        setattr(layer, kind.method, partial(function, layer))
    report.add(path, layer, name, None if reason else BECAME, reason)


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
        _give_class_back(layer, Adopted, _SpectralNorm)
        for hook in layer._forward_pre_hooks.values():
            _give_class_back(hook, Hook, TorchHook)
        for kind, function in _FOREIGN:
            if _replaced(layer, kind, function):
                del layer.__dict__[kind.method]
                layer.__dict__.pop("_fastgan_ready", None)


def _give_class_back(adopted: Any, kind: type, before: type) -> None:
    if type(adopted) is kind:
        adopted.__class__ = before
        adopted.__dict__.pop("prepared", None)
