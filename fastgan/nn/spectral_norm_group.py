"""All spectrally normalised weights of a network from one call per forward pass."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from fastgan._torch_private import TorchSpectralNorm
from fastgan.nn.all_or_nothing import all_or_nothing
from fastgan.nn.spectral_norm_ahead import ForwardPass, Operands, begin, end
from fastgan.nn.spectral_norm_checkpoints import computed_again
from fastgan.nn.spectral_normalisation import SpectralNorm, check_settings, load_older_keys, spectral_norm

_LAYERS = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear,
    nn.Embedding,
)  # fmt: skip


FindOperands = Callable[[nn.Module], Iterator[Operands]]
"""(layer) -> the inputs of the normalisations of its own weights (not of those below it)."""


class SpectralNormGroup:
    """Computes the weights that a forward pass of `root` is expected to use by one call, before it begins.

    The layers below `root` that the last forward pass used are expected (at first, all): those of one dtype, device
    and setting go into one call of the fused op. That changes no number: u and v are iterated when a weight is used,
    as torch's parametrization does. A layer that is used a second time, or outside of a forward pass, or
    unexpectedly, makes a call of its own; one that is expected and not used has cost its share of the common call.

    Weights are looked up by the layers' names at every forward pass, so that copies of the model (copy.deepcopy,
    DataParallel) have groups of their own, and a layer whose normalisation has been removed is left out. Of nested
    groups the innermost computes a layer.

    Args:
        root: the network.
        find: what recognises the weights of a layer: by default, fastgan's SpectralNorm.

    Raises:
        TypeError: root is not a module.
        ValueError: nothing below root is normalised.
    """

    def __init__(self, root: nn.Module, find: FindOperands | None = None) -> None:
        if not isinstance(root, nn.Module):
            raise TypeError(f"SpectralNormGroup: root is {type(root).__name__}, expected a torch.nn.Module")
        self.find = find or parametrized
        self.paths = [
            path
            for path, module in root.named_modules()
            if not isinstance(module, torch.jit.ScriptModule) and any(True for _ in self.find(module))
        ]
        if not self.paths:
            raise ValueError("SpectralNormGroup: no layer below root has fastgan's spectral norm")
        self._expected: frozenset[tuple[str, int]] | None = None  # paths, and which weight of the layer
        with all_or_nothing(root):
            self._hooks = (
                root.register_forward_pre_hook(self._prepare, prepend=True),
                root.register_forward_hook(self._finish, always_call=True),
            )

    def remove(self) -> None:
        """Makes every layer compute its own weight again."""
        for hook in self._hooks:
            hook.remove()

    def _prepare(self, root: nn.Module, _: Any) -> None:
        if torch.compiler.is_compiling() or computed_again():  # each layer for itself
            return
        members = {
            (path, i): operands
            for path in self.paths
            for layer in _submodule(root, path)
            for i, operands in enumerate(self.find(layer))
        }
        expected = [m for name, m in members.items() if self._expected is None or name in self._expected]
        names = {operands.key: name for name, operands in members.items()}
        begin(ForwardPass((root, self), names, expected))

    def _finish(self, root: nn.Module, *_: Any) -> None:
        if torch.compiler.is_compiling():
            return
        forward_pass = end((root, self))
        if forward_pass is not None:
            self._expected = frozenset(forward_pass.used)


def _submodule(root: nn.Module, path: str) -> list[nn.Module]:
    """The submodule of this name, if there still is one. (root.get_submodule looks much further.)"""
    found: nn.Module | None = root
    for name in path.split(".") if path else ():
        found = None if found is None else found._modules.get(name)
    return [] if found is None else [found]


def parametrized(layer: nn.Module, kind: type[SpectralNorm] = SpectralNorm) -> Iterator[Operands]:
    """Yields the parameters of a layer whose only parametrization is fastgan's spectral norm."""
    parametrizations = layer._modules.get("parametrizations")
    if parametrizations is None:
        return
    parametrization: Any
    for parametrization in parametrizations._modules.values():
        norms = list(parametrization._modules.values())
        if len(norms) == 1 and isinstance(norms[0], kind):
            weight = parametrization.original
            if weight.ndim > 1:
                yield norms[0].operands(weight)


def spectral_norm_(
    model: nn.Module, n_power_iterations: int = 1, eps: float = 1e-12, skip: tuple[str, ...] = ()
) -> nn.Module:
    """Normalises every convolution, linear layer and embedding of a network, all of them in one call per forward pass.

    Layers that have torch's parametrization already keep it, their buffers and their settings, and are computed by
    fastgan from now on. `SpectralNormGroup` says what a layer does that is used several times, or alone.

    Args:
        model: changed in place.
        n_power_iterations, eps: of the layers that get a norm here.
        skip: names of submodules (as in `named_modules`) that are left alone, with everything below them.

    Returns:
        The model.

    Raises:
        TypeError: model is not a module.
        ValueError: n_power_iterations is below 1, eps below 0, a name in `skip` is no submodule, there is nothing to
            normalise, or a layer's weight is no parameter (torch.nn.utils.spectral_norm or weight_norm makes it) or
            has no shape yet. The model is as it was.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"spectral_norm_: model is {type(model).__name__}, expected a torch.nn.Module")
    check_settings("spectral_norm_", n_power_iterations, eps)
    modules = dict(model.named_modules())
    for name in skip:
        if name not in modules:
            raise ValueError(f"spectral_norm_: skip names {name!r}, expected a submodule of the model")
    kept = {m for path, m in modules.items() if not any(path == name or path.startswith(f"{name}.") for name in skip)}
    chosen = [(path, m) for path, m in modules.items() if m in kept and isinstance(m, _LAYERS) and not _normalised(m)]
    if not chosen and not any(_normalised(m) for m in kept):
        raise ValueError("spectral_norm_: nothing in the model is a convolution, a linear layer or an embedding")
    for path, layer in chosen:
        _check_weight(path, layer)
    with all_or_nothing(model):
        for module in kept:
            adopt(module)
        for _, layer in chosen:
            spectral_norm(layer, "weight", n_power_iterations, eps)
        if any(True for module in kept for _ in parametrized(module)):  # others compute their weights alone
            SpectralNormGroup(model)
    return model


def _normalised(layer: nn.Module) -> bool:
    """Whether the weight has torch's or fastgan's spectral norm."""
    if not parametrize.is_parametrized(layer, "weight"):
        return False
    return any(isinstance(norm, TorchSpectralNorm) for norm in layer.parametrizations["weight"])  # type: ignore[index]


def _check_weight(path: str, layer: nn.Module) -> None:
    """Raises if the layer's weight cannot be given a norm."""
    if parametrize.is_parametrized(layer, "weight"):
        return
    weight = layer._parameters.get("weight")
    if weight is None:
        made = "torch.nn.utils makes it of weight_orig or weight_g"
        instead = "remove_spectral_norm or remove_weight_norm first, fastgan.accelerate for the norm it has, or skip"
        raise ValueError(f"spectral_norm_: the weight of {path!r} is no parameter ({made}): {instead}")
    if is_lazy(weight):
        raise ValueError(f"spectral_norm_: the weight of {path!r} has no shape yet, expected one after a forward pass")


def adopt(module: nn.Module) -> None:
    """Replaces torch's spectral norms of a layer's parameters by fastgan's, with their buffers."""
    if not parametrize.is_parametrized(module):
        return
    for name, parametrization in module.parametrizations.items():  # type: ignore[union-attr, operator]
        for norm in parametrization:
            if type(norm) is TorchSpectralNorm:
                norm.__class__ = SpectralNorm
                load_older_keys(module, name)
