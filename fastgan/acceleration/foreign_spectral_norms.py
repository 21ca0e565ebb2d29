"""Replaces the spectrally normalised layers of mimicry and BigGAN-PyTorch by the fused op."""

from typing import Any

import torch
from torch import Tensor, nn

from fastgan.acceleration.foreign import TOLERANCE, Settings, copy_of, has_settings, settings_of, subclass, verifying
from fastgan.acceleration.substitute import base_class, substitute
from fastgan.errors import one_line
from fastgan.nn.spectral_norm_ahead import Operands, normalised
from fastgan.nn.spectral_norm_checkpoints import computed_again

_OURS = "_fastgan_spectral_norm"  # marks the classes that are made here
_SETTINGS = "_fastgan_settings"
_MADE: dict[tuple[type, str, Settings], type[nn.Module]] = {}


class Foreign:
    """A kind of layer, by the names of its buffers and attributes.

    Both known kinds keep u of shape [1, rows], compute v from it first, and make an iteration in eval mode too, whose
    u they forget. Only training writes the buffers.
    """

    def __init__(self, method: str, u: str, sigma: str, iterations: str, repeats_in_eval: bool) -> None:
        self.method, self.u, self.sigma, self.iterations = method, u, sigma, iterations
        self.repeats_in_eval = repeats_in_eval

    def suggested(self, layer: nn.Module) -> bool:
        """Whether a layer has the method and the buffer of this kind, and a weight."""
        weight = layer._parameters.get("weight")
        return weight is not None and self.u in layer._buffers and callable(getattr(type(layer), self.method, None))

    def why_not(self, layer: Any) -> str:
        """The setting of such a layer that the fused op does not support; an empty text if there is none."""
        weight, u = layer.weight, layer._buffers[self.u]
        if getattr(layer, "num_svs", 1) != 1:
            return f"keeps {layer.num_svs} singular vectors (num_svs), fastgan's power iteration has one"
        if getattr(layer, "transpose", False):
            return "takes its weight's columns for rows (transpose)"
        if weight.ndim < 2:
            return "a vector's norm is no power iteration"
        if u is None or u.shape != (1, weight.shape[0]):
            return f"{self.u} has shape {None if u is None else list(u.shape)}, expected [1, {weight.shape[0]}]"
        if layer._buffers.get(self.sigma) is None:
            return f"has no buffer {self.sigma}"
        iterations, eps = getattr(layer, self.iterations, None), getattr(layer, "eps", None)
        if type(iterations) is not int or iterations < 1:
            return f"{self.iterations} is {iterations!r}, expected an integer of at least 1"
        if not isinstance(eps, float):
            return f"eps is {eps!r}, expected a float"
        return ""

    def checked(self) -> tuple[str, ...]:
        """The attributes that each call reads or checks anew."""
        return self.iterations, "eps", "num_svs", "transpose"

    def operands(self, layer: Any) -> Operands:
        training = layer.training
        iterations = getattr(layer, self.iterations) if training or self.repeats_in_eval else 1
        return Operands(
            layer, "weight", layer.weight, layer._buffers[self.u], None, 0, iterations, layer.eps, True, training
        )

    def weight(self, layer: Any) -> Tensor:
        """The normalised weight, in the place of the layer's own method."""
        weight, sigma = normalised(self.operands(layer))
        if layer.training and not computed_again():
            with torch.no_grad():
                layer._buffers[self.sigma].fill_(sigma.detach())
        return weight


NORM_KINDS = (
    Foreign("sn_weights", "sn_u", "sn_sigma", "num_iters", repeats_in_eval=True),  # mimicry
    Foreign("W_", "u0", "sv0", "num_itrs", repeats_in_eval=False),  # BigGAN-PyTorch
)


def replaced_kind(layer: nn.Module) -> Foreign | None:
    """The kind of a layer that has been replaced; None for any other."""
    methods = base_class(layer).__dict__
    return next((kind for kind in NORM_KINDS if kind.method in methods), None) if _OURS in methods else None


def is_ours(layer: nn.Module) -> bool:
    """Whether a layer has been replaced, and its attributes are still such that the replacement computes the same."""
    kind = replaced_kind(layer)
    return kind is not None and not kind.why_not(layer) and has_settings(layer, base_class(layer).__dict__[_SETTINGS])


def replacement(layer: nn.Module, kind: Foreign) -> tuple[type[nn.Module] | None, str]:
    """The class that computes the same as the layer, or the reason why there is none."""
    if kind.method in layer.__dict__:
        return None, "its instance has a method of its own"
    reason = kind.why_not(layer)
    if reason:
        return None, reason
    settings, reason = settings_of(layer, apart=kind.checked())
    if reason:
        return None, reason
    found = _subclass(base_class(layer), kind.method, settings)
    reason = _difference(layer, found, kind)
    return (None, reason) if reason else (found, "")


def _subclass(original: Any, method: str, settings: Settings) -> type[nn.Module]:
    key = original, method, settings
    if key not in _MADE:
        kind = next(kind for kind in NORM_KINDS if kind.method == method)

        def weight(self: nn.Module) -> Tensor:
            # Where settings were changed to what is not ours, the original answers for them.
            return kind.weight(self) if is_ours(self) else getattr(original, method)(self)

        _MADE[key] = subclass(original, _OURS, {method: weight, _SETTINGS: settings}, _rebuild, key)
    return _MADE[key]


def _rebuild(original: type[nn.Module], method: str, settings: Settings) -> nn.Module:
    found = _subclass(original, method, settings)
    return found.__new__(found)


def _difference(layer: nn.Module, found: type[nn.Module], kind: Foreign) -> str:
    """Compares weights, buffers and gradients on copies in float64: what differs, or an empty text."""
    try:
        with verifying():
            theirs: Any = copy_of(layer, training=True)
            ours: Any = copy_of(theirs, training=True)
            substitute(ours, found)
            generator, worst = torch.Generator().manual_seed(0), 0.0
            for training in (True, True, False):
                results = []
                cotangent = torch.randn(theirs.weight.shape, generator=generator, dtype=torch.float64)
                for each in (theirs.train(training), ours.train(training)):
                    normalised_weight = getattr(each, kind.method)()
                    (dw,) = torch.autograd.grad(normalised_weight, each.weight.requires_grad_(), cotangent)
                    results.append([normalised_weight.detach(), dw, *each.buffers()])
                differences = [float((a - b).abs().max() / (1 + a.abs().max())) for a, b in zip(*results, strict=True)]
                worst = max(worst, *differences)
    except Exception as error:
        return f"could not be run on a copy in float64: {one_line(error)}"
    return "" if worst <= TOLERANCE else f"looks like a spectral norm but computes something else (by {worst:.1g})"
