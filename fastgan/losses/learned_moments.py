"""The method of learned moments: the generator matches moments that a classifier of data and samples has learned.

The moments of a sample x are what the critic f makes of it, and how its answer depends on its parameters phi:

    Phi(x) = (grad_phi f(x), x, h_1(x), h_2(x), ...)

with h_l the outputs of hidden layers. There are more of them than parameters of f, so that their means can tell apart
distributions that differ. As they are made of the network, not of its outputs alone, these are functions of
(critic, real, fake) and no `Loss` in `LOSSES`:

    learned_moments.critic(critic, real, fake).backward()                              # now and then, some steps
    learned_moments.generator(critic, real, fake, layers=("layers.1",)).backward()     # many steps in between

The generator's gradient needs the critic's layers twice differentiable, as a gradient penalty does.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fastgan.losses.features import wide
from fastgan.losses.nonsaturating_loss import critic as classification


def moments(critic: nn.Module, x: Tensor, layers: Sequence[str] = ()) -> Tensor:
    """mean over x of (grad_phi f(x), x, h_l(x) for l in layers), as one vector.

    The mean of the parameters' gradient is the gradient of the mean output, so that one backward pass gives it.

    Args:
        critic: f, any module, called as critic(x). All its parameters count, whether they require a gradient or not;
            samples that its layers compare (batch statistics) are compared within x.
        x: a batch, floating point [B, ...], B at least 1.
        layers: names of submodules, as in `named_modules`, whose outputs [B, ...] are moments too.

    Returns:
        [M], in float32 (float64 for float64), differentiable with respect to x; no gradient goes to the critic's
        parameters.

    Raises:
        ValueError: a layer is not in the critic, or was not called just once; or x is empty.

    Ravuri et al. 2018, arXiv:1806.11006, section 3.
    """
    if not x.ndim or not len(x):
        raise ValueError(f"learned_moments: x has shape {list(x.shape)}, expected at least one sample")
    with torch.enable_grad(), _outputs_of(critic, layers) as hidden:
        # Copies, so that backward leaves the critic's own alone, and a frozen critic has moments as well.
        parameters = {name: p.detach().requires_grad_() for name, p in critic.named_parameters()}
        output = functional_call(critic, parameters, (x,))
        by_parameters = torch.autograd.grad(
            wide(output).mean(), list(parameters.values()), create_graph=x.requires_grad, materialize_grads=True
        )
    for name, outputs in zip(layers, hidden, strict=True):
        if len(outputs) != 1:
            raise ValueError(f"learned_moments: layer {name!r} was called {len(outputs)} times, expected once")
    parts = [wide(g).flatten() for g in by_parameters]
    parts += [wide(points).flatten(1).mean(0) for points in (x, *(outputs[0] for outputs in hidden))]
    found = torch.cat(parts)
    return found if x.requires_grad else found.detach()


def generator(critic: nn.Module, real: Tensor, fake: Tensor, layers: Sequence[str] = ()) -> Tensor:
    """1/2 ||E_p Phi(x) - E_q Phi(G(z))||^2.

    Args:
        critic: as it is now; its parameters get no gradient.
        real: data, [B, ...].
        fake: samples, [B', ...], with their gradient to the generator.
        layers: as for `moments`, which computes the moments of data once for several steps:
            (moments(critic, real) - moments(critic, fake)).square().sum() / 2.

    Returns:
        A scalar; 0 where the moments agree.

    Raises:
        ValueError: as for `moments`.

    Ravuri et al. 2018, arXiv:1806.11006, section 3.
    """
    return (moments(critic, real.detach(), layers) - moments(critic, fake, layers)).square().sum() / 2


def critic(critic: nn.Module, real: Tensor, fake: Tensor, weight: float = 1.0) -> Tensor:
    """-E_p log s(f(x)) - E_q log(1 - s(f(G(z)))) + weight/2 sum over p, q of (||grad_phi E f||^2 - 1)^2.

    A classifier, whose moments are kept to a scale: the larger its gradient with respect to the parameters, the more do
    a batch's moments vary.

    Args:
        critic: the network, called as critic(x), whose parameters get the gradient.
        real: data, [B, ...].
        fake: samples, [B', ...]; no gradient goes to them.
        weight: of the penalty, at least 0.

    Returns:
        A scalar.

    Raises:
        ValueError: weight is below 0, or none of the critic's parameters requires a gradient.

    Ravuri et al. 2018, arXiv:1806.11006, section 3.
    """
    if not weight >= 0:
        raise ValueError(f"learned_moments: weight is {weight!r}, expected a number of at least 0")
    parameters = [p for p in critic.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("learned_moments: critic has no parameter that requires a gradient, expected one to train")
    logits = [critic(x.detach()) for x in (real, fake)]
    total = classification(*logits)
    for output in logits:
        slopes = torch.autograd.grad(wide(output).mean(), parameters, create_graph=True, materialize_grads=True)
        total = total + weight / 2 * (sum(wide(g).square().sum() for g in slopes) - 1) ** 2
    return total


@contextmanager
def _outputs_of(critic: nn.Module, layers: Sequence[str]) -> Iterator[list[list[Tensor]]]:
    """A context that collects the outputs of each layer, call by call."""
    modules = dict(critic.named_modules())
    for name in layers:
        if name not in modules:
            raise ValueError(f"learned_moments: layers names {name!r}, expected a submodule of the critic")
    found: list[list[Tensor]] = [[] for _ in layers]

    def keep(outputs: list[Tensor]) -> Any:
        return lambda module, inputs, output: outputs.append(output)

    handles = [modules[name].register_forward_hook(keep(outputs)) for name, outputs in zip(layers, found, strict=True)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
