"""The derivatives of scaled_bias_act: autograd functions over the operators of backends.py."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastgan.ops._common.partial_gradients import partial_gradients
from fastgan.ops.bias_act.autograd import BiasAct
from fastgan.ops.bias_act.backends import BiasActConfig
from fastgan.ops.scaled_bias_act import backends as operators
from fastgan.ops.scaled_bias_act.backends import Coefficients, ScaledBiasActConfig
from fastgan.ops.scaled_bias_act.with_noise import noise_gradient_of, scaled_with_noise, total_like


class ScaledBiasAct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, noise: Tensor | None, strength: Tensor | None, b: Tensor | None,
        config: ScaledBiasActConfig,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(x, scale, noise, strength, b)
        ctx.config = config
        ctx.set_materialize_grads(False)
        return operators.scaled_bias_act(x, scale, noise, strength, b, *config)

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None) -> tuple[Tensor | None, ...]:
        if dy is None:
            return (None,) * 6
        if torch.is_grad_enabled():  # only with create_graph=True
            composed = partial(_composed, config=ctx.config)
            return *partial_gradients(composed, ctx.saved_tensors, ctx.needs_input_grad, dy), None
        x, scale, noise, strength, b = ctx.saved_tensors
        needs = ctx.needs_input_grad
        dx, sums = operators.scaled_bias_act_grad(dy, x, scale, noise, strength, b, *ctx.config, False)
        dnoise = noise_gradient(dy, x, Coefficients(scale, noise, strength, b), ctx.config) if needs[2] else None
        dscale, dstrength, db = gradients_of_sums(sums, scale, strength, b, (needs[1], needs[3], needs[4]))
        return dx if needs[0] else None, dscale, dnoise, dstrength, db, None


def _composed(
    x: Tensor, scale: Tensor, noise: Tensor | None, strength: Tensor | None, b: Tensor | None,
    config: ScaledBiasActConfig,
) -> Tensor:  # fmt: skip
    """`scaled_bias_act` in two steps, each differentiable to any order."""
    v = scaled_with_noise(x, scale, noise, strength, config.backend)
    return BiasAct.apply(v, b, BiasActConfig(1, *config))


def gradients_of_sums(
    sums: Tensor, scale: Tensor, strength: Tensor | None, b: Tensor | None, needs: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients of scale, strength and b, where needed, from the kernel's [B, C, 3] (csrc/scaled_bias_act.h)."""
    of_scale, of_strength, of_bias = sums.unbind(2)
    return (
        of_scale.to(scale.dtype) if needs[0] else None,
        of_strength.sum().to(strength.dtype).view_as(strength) if strength is not None and needs[1] else None,
        of_bias.sum(0).to(b.dtype) if b is not None and needs[2] else None,
    )


def noise_gradient(dy: Tensor, x: Tensor, coefficients: Coefficients, config: ScaledBiasActConfig) -> Tensor:
    """A pass of its own, since noise is drawn, not learnt, in nearly every network."""
    _, noise, strength, _ = coefficients
    assert noise is not None
    t, _ = operators.scaled_bias_act_grad(dy, x, *coefficients, *config, True)
    return noise_gradient_of(total_like(noise, t), noise, strength)
