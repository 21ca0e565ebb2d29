"""All spectrally normalised weights of a network from one call per forward pass."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm

from fastgan.nn.spectral_norm import Prepared, SpectralNorm, iterations_now, load_older_keys, spectral_norm
from fastgan.ops.spectral_norm import spectral_norm as spectral_norm_op

_LAYERS = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear,
    nn.Embedding,
)  # fmt: skip


class Member(NamedTuple):
    """A weight that is to be normalised now.

    Attributes:
        weight, u, v, dim, iterations, eps, v_first: as for `fastgan.ops.spectral_norm`.
        deliver: takes the normalised weight and sigma; None takes them away again after the forward pass.
    """

    weight: Tensor
    u: Tensor
    v: Tensor
    dim: int
    iterations: int
    eps: float
    v_first: bool
    deliver: Callable[[tuple[Tensor, Tensor] | None], None]


Finder = Callable[[nn.Module], Iterator[Member]]
"""Yields the weights of one layer (not of those below it)."""


class SpectralNormGroup:
    """Computes the weights of every spectrally normalised layer below `root` before each of its forward passes.

    All layers of one dtype and device go into one call of the fused op, which makes the power iteration of each layer's
    first access in a forward pass. A layer that is used again in the same pass, or outside of one, makes another
    iteration by itself, so that weights, u and v are those of torch's parametrization, step by step; only a layer that
    the pass does not use at all is one iteration ahead.

    Weights are looked up by the layers' names at every forward pass, so that copies of the model (copy.deepcopy,
    DataParallel) have groups of their own, and a layer whose normalisation has been removed is left out.

    Args:
        root: the network.
        find: what recognises the weights of a layer: by default, fastgan's SpectralNorm.

    Raises:
        TypeError: root is not a module.
        ValueError: nothing below root is normalised.
    """

    def __init__(self, root: nn.Module, find: Finder | None = None) -> None:
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
        self._delivered: dict[int, list[Member]] = {}  # by the root that runs: replicas share this object
        self._hooks = (
            root.register_forward_pre_hook(self._prepare, prepend=True),
            root.register_forward_hook(self._clear, always_call=True),
        )

    def remove(self) -> None:
        """From now on every layer computes its own weight again."""
        for hook in self._hooks:
            hook.remove()

    def _prepare(self, root: nn.Module, _: Any) -> None:
        members = [member for path in self.paths for member in self.find(root.get_submodule(path))]
        normalise(members)
        self._delivered[id(root)] = members

    def _clear(self, root: nn.Module, *_: Any) -> None:
        for member in self._delivered.pop(id(root), ()):
            member.deliver(None)


def normalise(members: list[Member]) -> None:
    """Delivers the weights of all members, by one call for all that can share one."""
    together: dict[tuple, list[Member]] = {}
    for member in members:
        key = (member.weight.dtype, member.weight.device, member.iterations, member.eps, member.v_first)
        together.setdefault(key, []).append(member)
    for (_, _, iterations, eps, v_first), group in together.items():
        weights, sigmas = spectral_norm_op(
            [m.weight for m in group], [m.u for m in group], [m.v for m in group],
            n_power_iterations=iterations, eps=eps, dims=[m.dim for m in group], v_first=v_first,
        )  # fmt: skip
        for member, weight, sigma in zip(group, weights, sigmas.unbind(), strict=True):
            member.deliver((weight, sigma))


def parametrized(layer: nn.Module, kind: type[SpectralNorm] = SpectralNorm) -> Iterator[Member]:
    """The parameters of a layer whose only parametrization is a spectral norm of fastgan's."""
    parametrizations = layer._modules.get("parametrizations")
    if parametrizations is None:
        return
    parametrization: Any
    for parametrization in parametrizations._modules.values():
        norms = list(parametrization._modules.values())
        weight = parametrization._parameters.get("original")
        if len(norms) == 1 and isinstance(norms[0], kind) and weight is not None and weight.ndim > 1:
            yield _member(norms[0], weight)


def _member(norm: SpectralNorm, weight: Tensor) -> Member:
    def deliver(found: tuple[Tensor, Tensor] | None) -> None:
        if norm.prepared is None:
            norm.prepared = Prepared()
        norm.prepared.put(None if found is None else (weight, found[0]))

    u, v = norm._buffers["_u"], norm._buffers["_v"]
    assert u is not None
    assert v is not None
    return Member(weight, u, v, norm.dim, iterations_now(norm), norm.eps, False, deliver)


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
        ValueError: a name in `skip` is no submodule, or there is nothing to normalise.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"spectral_norm_: model is {type(model).__name__}, expected a torch.nn.Module")
    modules = dict(model.named_modules())
    for name in skip:
        if name not in modules:
            raise ValueError(f"spectral_norm_: skip names {name!r}, expected a submodule of the model")
    for path, module in modules.items():
        if any(path == name or path.startswith(f"{name}.") for name in skip):
            continue
        adopt(module)
        if isinstance(module, _LAYERS) and not parametrize.is_parametrized(module, "weight"):
            spectral_norm(module, "weight", n_power_iterations, eps)
    SpectralNormGroup(model)
    return model


def adopt(module: nn.Module) -> None:
    """Makes torch's spectral norms of a layer's parameters fastgan's, with their buffers."""
    if not parametrize.is_parametrized(module):
        return
    for name, parametrization in module.parametrizations.items():  # type: ignore[union-attr, operator]
        for norm in parametrization:
            if type(norm) is _SpectralNorm:
                norm.__class__ = SpectralNorm
                load_older_keys(module, name)
