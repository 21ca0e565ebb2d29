"""Unrolled GANs: the generator's loss under the critic as it will be after K of its own steps."""

from collections.abc import Callable
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fastgan.penalties.lean import lean_derivatives
from fastgan.unrolling.optimizers import InnerOptimizer, Parameters

Critic = Callable[..., Tensor]


def unrolled_generator_loss(
    critic: nn.Module,
    critic_loss: Callable[[Critic], Tensor],
    generator_loss: Callable[[Critic], Tensor],
    steps: int,
    optimizer: InnerOptimizer,
) -> Tensor:
    """L_g(φ_K(θ), θ): the generator's loss under the critic K steps ahead, differentiable through all of them.

        φ_0 = φ,    φ_{k+1} = φ_k - lr ∇_φ L_f(φ_k, θ)                  (or Adam's step)

        fake = generator(z)
        loss = unrolled_generator_loss(
            critic,
            critic_loss=lambda D: minimax.critic(D(real), D(fake)),
            generator_loss=lambda D: minimax.generator(D(fake), None),
            steps=5,
            optimizer=SGD(1e-3),
        )
        loss.backward()

    The gradient has the ordinary part and how the critic would answer a change of the samples, as long as `fake` in
    `critic_loss` has its graph. It goes to whatever made the samples, and not to the critic: neither its parameters nor
    their `.grad` nor its buffers change. The critic's own update is an ordinary one, of its loss without unrolling.

    Args:
        critic: of operations that can be differentiated twice. Parameters that require no gradient stay as they are.
        critic_loss: what the critic minimises, of a critic that is called like `critic`: a scalar. Called once for each
            step; it may draw a new batch each time.
        generator_loss: what the generator minimises, of the unrolled critic; its value is returned.
        steps: K, at least 0. At 0 this is the ordinary loss.
        optimizer: `SGD`, `Adam` or `Adam.continuing(...)`.

    Memory and time grow with K: each step is a forward and a backward pass that is kept for the double backward.

    Raises:
        ValueError: steps is no integer of at least 0, no parameter of the critic requires a gradient, or critic_loss is
            no scalar that depends on the critic.

    Metz et al. 2017, arXiv:1611.02163, section 2.2.
    """
    return generator_loss(unrolled_critic(critic, critic_loss, steps, optimizer))


def unrolled_critic(
    critic: nn.Module, critic_loss: Callable[[Critic], Tensor], steps: int, optimizer: InnerOptimizer
) -> Critic:
    """The critic after K steps on its loss, as a function; arguments and errors as `unrolled_generator_loss`.

    Metz et al. 2017, arXiv:1611.02163, section 2.2.
    """
    if not isinstance(steps, Integral) or steps < 0:
        raise ValueError(f"unrolled_critic: steps is {steps!r}, expected an integer of at least 0")
    # Leaves of their own: gradients end here instead of in the critic's parameters.
    parameters = {name: p.detach().requires_grad_() for name, p in critic.named_parameters() if p.requires_grad}
    if not parameters:
        raise ValueError("unrolled_critic: critic has no parameter that requires a gradient, expected one to unroll")
    # Batch norm and spectral norm move their buffers, in place: those of the unrolled critic go their own way.
    buffers = {name: buffer.clone() for name, buffer in critic.named_buffers()}
    ahead = steps_ahead(parameters, lambda moved: critic_loss(_with(critic, moved, buffers)), steps, optimizer)
    return _with(critic, ahead, buffers)


def steps_ahead(
    parameters: Parameters, loss: Callable[[Parameters], Tensor], steps: int, optimizer: InnerOptimizer
) -> Parameters:
    """Parameters after K steps on a loss, differentiable through all of them.

    Args:
        parameters: tensors by name that require gradients.
        loss: what is minimised, of parameters by the same names: a scalar.
        steps: K.
        optimizer: `SGD`, `Adam` or `Adam.continuing(...)`.

    Raises:
        ValueError: the loss is no scalar that depends on the parameters.
    """
    state = optimizer.start()
    with torch.enable_grad():
        for _ in range(steps):
            with lean_derivatives():
                value = loss(parameters)
            parameters, state = optimizer.step(parameters, _gradients(value, parameters), state)
    return parameters


def _with(critic: nn.Module, parameters: Parameters, buffers: dict[str, Tensor]) -> Critic:
    def call(*args: Any, **kwargs: Any) -> Tensor:
        return functional_call(critic, {**parameters, **buffers}, args, kwargs)

    return call


def _gradients(loss: Tensor, parameters: Parameters) -> Parameters:
    if loss.numel() != 1:
        raise ValueError(f"unrolled_critic: critic_loss has shape {list(loss.shape)}, expected a scalar")
    names, tensors = list(parameters), list(parameters.values())
    found = torch.autograd.grad(loss, tensors, create_graph=True, allow_unused=True) if loss.requires_grad else ()
    gradients = {name: g for name, g in zip(names, found) if g is not None}  # noqa: B905 (none without a graph)
    if not gradients:
        raise ValueError("unrolled_critic: critic_loss does not depend on the critic that it was given, expected it to")
    return gradients
