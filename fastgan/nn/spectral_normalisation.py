"""Spectral normalisation of one layer, interchangeable with torch.nn.utils.parametrizations.spectral_norm."""

from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from fastgan._torch_private import TorchSpectralNorm
from fastgan.nn.all_or_nothing import all_or_nothing
from fastgan.nn.spectral_norm_ahead import Operands, normalised
from fastgan.ops._common.checks import check_count, check_number


class SpectralNorm(TorchSpectralNorm):
    """torch's parametrization, its buffers and its arithmetic, by the fused op.

    Every access of the weight is a power iteration in training mode, as torch's. Where a `SpectralNormGroup` has
    computed it ahead, together with those of the other layers, it costs no call of its own.
    """

    def forward(self, weight: Tensor) -> Tensor:
        if weight.ndim == 1:
            return super().forward(weight)  # a vector's singular value is its norm
        return normalised(self.operands(weight))[0]

    def reset_parameters(self) -> None:
        """Draws the vectors anew, of length 1; power iterations in training find the singular vectors again."""
        for name in ("_u", "_v"):
            vector = self._buffers.get(name)
            if vector is not None:
                F.normalize(vector.normal_(), dim=0, eps=self.eps, out=vector)

    def operands(self, weight: Tensor) -> Operands:
        """The inputs of the normalisation of `weight`, as they are now."""
        iterations, buffers = self.n_power_iterations if self.training else 0, self._buffers
        u, v = cast(Tensor, buffers["_u"]), cast(Tensor, buffers["_v"])
        return Operands(self, "", weight, u, v, self.dim, iterations, self.eps, False, iterations > 0)


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
        ValueError: the module has no such parameter, n_power_iterations is below 1, or eps below 0.
        IndexError: dim is not a dimension of the weight.
    """
    check_settings("spectral_norm", n_power_iterations, eps)
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(f"spectral_norm: module {type(module).__name__} has no parameter {name!r}")
    if dim is None:
        dim = int(isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)))
    norm = SpectralNorm(weight, n_power_iterations, dim, eps)
    with all_or_nothing(module):
        parametrize.register_parametrization(module, name, norm)
        load_older_keys(module, name)
    return module


def check_settings(owner: str, n_power_iterations: int, eps: float) -> None:
    check_count(owner, "n_power_iterations", n_power_iterations)
    check_number(owner, "eps", eps)


def load_older_keys(module: nn.Module, name: str) -> None:
    """Lets `module.load_state_dict` take the keys of torch.nn.utils.spectral_norm for its parameter `name`."""
    known = module._load_state_dict_pre_hooks.values()
    if not any(isinstance(getattr(hook, "hook", hook), _OlderKeys) for hook in known):
        module.register_load_state_dict_pre_hook(_OlderKeys(name))


class _OlderKeys:
    """Renames weight_orig, weight_u and weight_v to parametrizations.weight.original, ...0._u and ...0._v."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, module: nn.Module, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        if not parametrize.is_parametrized(module, self.name):
            return
        parametrization = module.parametrizations[self.name]  # type: ignore[index]
        index = next((i for i, p in enumerate(parametrization) if isinstance(p, TorchSpectralNorm)), None)
        old, new = f"{prefix}{self.name}", f"{prefix}parametrizations.{self.name}"
        if index is None or f"{old}_orig" not in state_dict:
            return
        state_dict[f"{new}.original"] = state_dict.pop(f"{old}_orig")
        for vector in ("_u", "_v"):
            if f"{old}{vector}" in state_dict:
                state_dict[f"{new}.{index}.{vector}"] = state_dict.pop(f"{old}{vector}")
