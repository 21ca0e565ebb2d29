"""Spectral normalisation of one layer, interchangeable with torch.nn.utils.parametrizations.spectral_norm."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm

from fastgan.ops.spectral_norm import spectral_norm as spectral_norm_op


class Prepared:
    """The weight that a group has computed for a layer. (Not in the module itself, whose __setattr__ is slow.)

    Attributes:
        ready: (the parameter, its normalised form), until it is used.
        kept: the same after it was used by a checkpointed layer, until the next forward pass.
    """

    def __init__(self) -> None:
        self.ready: tuple[Tensor, Tensor] | None = None
        self.kept: tuple[Tensor, Tensor] | None = None

    def put(self, ready: tuple[Tensor, Tensor] | None) -> None:
        """A new one before a forward pass, None after it."""
        self.ready = ready
        if ready is not None:
            self.kept = None

    def take(self, weight: Tensor, again: bool) -> Tensor | None:
        """The normalised form of this parameter if it is here; it stays for further use if `again`."""
        if self.kept is not None and self.kept[0] is weight and computed_again():
            return self.kept[1]
        ready = self.ready
        if ready is None or ready[0] is not weight:
            return None
        if not again:
            self.ready = None
        if checkpointing():
            self.kept = ready
        return ready[1]


class SpectralNorm(_SpectralNorm):
    """torch's parametrization, its buffers and its arithmetic, by the fused op.

    A `SpectralNormGroup` computes the weights of all layers at once before the network's forward pass and leaves each
    here for its first access. Otherwise, and at every further access, a layer computes its own, with a power iteration
    of its own in training mode: the same iterations as torch's.
    """

    prepared: Prepared | None = None
    """Where a group leaves the weight; None while there is no group."""

    def forward(self, weight: Tensor) -> Tensor:
        if self.prepared is not None:
            found = self.prepared.take(weight, again=not self.training)
            if found is not None:
                return found
        if weight.ndim == 1:
            return super().forward(weight)  # a vector's singular value is its norm
        (normalised,), _ = spectral_norm_op(
            [weight], [self._u], [self._v], n_power_iterations=iterations_now(self), eps=self.eps, dims=self.dim
        )
        return normalised


def iterations_now(norm: Any) -> int:
    """The power iterations of an access: none in eval mode, nor where a checkpointed layer is computed again.

    Activation checkpointing runs forward a second time during backward, and must find the weight that it used the
    first time: one more iteration would give another.
    """
    return norm.n_power_iterations if norm.training and not computed_again() else 0


def computed_again() -> bool:
    """Whether this is a forward pass within a backward pass, as activation checkpointing makes."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def checkpointing() -> bool:
    """Whether torch.utils.checkpoint will compute this again: it wants the same tensors to be saved then."""
    if torch.compiler.is_compiling():
        return False
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(False)
    return hooks is not None and hooks[0].__qualname__.startswith("_checkpoint_hook")


def spectral_norm(
    module: nn.Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> nn.Module:
    """Divides a layer's weight by its largest singular value, like `torch.nn.utils.parametrizations.spectral_norm`.

    Miyato et al. 2018, Spectral Normalization for Generative Adversarial Networks, arXiv:1802.05957. Parameters,
    buffers, the keys of the state_dict and the first random vectors are torch's, so that checkpoints of either load
    into the other; those of the older `torch.nn.utils.spectral_norm` (weight_orig, weight_u, weight_v) load too.

    Args:
        module: a layer of any kind that has the parameter: convolutions of any dimension, transposed ones, linear
            layers, embeddings.
        name: of the parameter.
        n_power_iterations: steps of the power method at every access in training mode, at least 1.
        eps: the least norm that a vector is divided by.
        dim: the dimension of the outputs: 0, but 1 for transposed convolutions, unless given.

    Returns:
        The module.

    Raises:
        ValueError: the module has no such parameter, or n_power_iterations is below 1.
        IndexError: dim is not a dimension of the weight.
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(f"spectral_norm: module {type(module).__name__} has no parameter {name!r}")
    if dim is None:
        dim = int(isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)))
    norm = SpectralNorm(weight, n_power_iterations, dim, eps)
    parametrize.register_parametrization(module, name, norm)
    load_older_keys(module, name)
    return module


def load_older_keys(module: nn.Module, name: str) -> None:
    """Lets `module.load_state_dict` take the keys of torch.nn.utils.spectral_norm for its parameter `name`."""
    known = module._load_state_dict_pre_hooks.values()
    if not any(isinstance(getattr(hook, "hook", hook), _OlderKeys) for hook in known):
        module.register_load_state_dict_pre_hook(_OlderKeys(name))


class _OlderKeys:
    """weight_orig, weight_u and weight_v become parametrizations.weight.original, ...0._u and ...0._v."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, module: nn.Module, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        if not parametrize.is_parametrized(module, self.name):
            return
        parametrization = module.parametrizations[self.name]  # type: ignore[index]
        index = next((i for i, p in enumerate(parametrization) if isinstance(p, _SpectralNorm)), None)
        old, new = f"{prefix}{self.name}", f"{prefix}parametrizations.{self.name}"
        if index is None or f"{old}_orig" not in state_dict:
            return
        state_dict[f"{new}.original"] = state_dict.pop(f"{old}_orig")
        for vector in ("_u", "_v"):
            if f"{old}{vector}" in state_dict:
                state_dict[f"{new}.{index}.{vector}"] = state_dict.pop(f"{old}{vector}")
