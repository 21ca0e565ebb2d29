"""scaled_bias_act in plain PyTorch."""

from torch import Tensor

from fastgan.ops.bias_act.reference import bias_act_reference


def scaled_bias_act_reference(
    x: Tensor,
    scale: Tensor,
    noise: Tensor | None = None,
    strength: Tensor | None = None,
    b: Tensor | None = None,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """`scaled_bias_act` in plain PyTorch: the oracle, the fallback and what the benchmarks call eager."""
    v = x * scale.to(x.dtype).view(*scale.shape, *(1 for _ in x.shape[2:]))
    if noise is not None:
        noise = noise.to(x.dtype)
        v = v + (noise if strength is None else noise * strength.to(x.dtype).view(()))
    return bias_act_reference(v, b, 1, act, alpha, gain, clamp)
