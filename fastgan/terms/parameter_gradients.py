"""The squared norm of a player's gradient with respect to parameters: one term, three regularisers.

The critic has the parameters φ and the loss L_f, the generator θ and L_g; the weights γ and η are the user's.

    L_f + γ/2 ||∇_φ L_f||²   the critic seeks points where its own gradient is small; likewise L_g + γ/2 ||∇_θ L_g||²
    L + γ/2 (||∇_φ L_f||² + ||∇_θ L_g||²)   both players, each with its own L: consensus optimisation (Mescheder et
                             al. 2017, arXiv:1705.10461, section 4), whose last term is the Hamiltonian of Balduzzi et
                             al. 2018, arXiv:1802.05642
    L_g + η ||∇_φ L_f||²     the generator keeps the critic near its optimum (Nagarajan and Kolter 2017,
                             arXiv:1706.04156, section 4)

For the second, both losses keep their graphs and each player differentiates the same sum:

    players = loss(critic(real), critic(generator(z)))
    field = parameter_gradient(players.critic, critic.parameters()) + parameter_gradient(
        players.generator, generator.parameters()
    )
    for_critic = torch.autograd.grad(players.critic + gamma / 2 * field, list(critic.parameters()), retain_graph=True)
    for_generator = torch.autograd.grad(players.generator + gamma / 2 * field, list(generator.parameters()))
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from fastgan.ops._common.precision import compute_dtype
from fastgan.terms.arguments import tensors


def parameter_gradient(loss: Tensor, parameters: Iterable[Tensor]) -> Tensor:
    """||∇_parameters loss||², differentiable with respect to whatever the loss depends on.

    The loss's graph is kept, so that the loss can be added to it and differentiated as well. Parameters that are
    frozen, or that the loss does not depend on, count as zero.

    Args:
        loss: a scalar with a graph, of operations that can be differentiated twice.
        parameters: of any shapes and floating dtypes, as in `critic.parameters()`.

    Returns:
        A scalar; squares are summed in float32 (float64 where a parameter is float64).

    Raises:
        TypeError: parameters is a single tensor or a module.
        ValueError: the loss is no scalar or has no graph, parameters is empty, or the loss depends on none of them.

    Mescheder et al. 2017, arXiv:1705.10461, section 4; Nagarajan and Kolter 2017, arXiv:1706.04156, section 4.
    """
    wanted = [p for p in tensors("parameter_gradient", "parameters", parameters) if p.requires_grad]
    if loss.numel() != 1:
        raise ValueError(f"parameter_gradient: loss has shape {list(loss.shape)}, expected a scalar")
    if not loss.requires_grad:
        raise ValueError("parameter_gradient: loss has no graph, expected one that leads to the parameters")
    found = torch.autograd.grad(loss, wanted, create_graph=True, allow_unused=True) if wanted else ()
    gradients = [g.flatten().to(compute_dtype(g)) for g in found if g is not None]
    if not gradients:
        raise ValueError("parameter_gradient: loss depends on none of the parameters, expected at least one")
    return torch.stack([g.dot(g) for g in gradients]).sum()
