"""The critic's side of a step, and a penalty alone, by `directional`."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan.affine import NotAffineError
from fastgan.nn import statistics_of
from fastgan.penalties import one_pass
from fastgan.penalties.compiled import backend_of, ordinary
from fastgan.penalties.directional import Directional, Group, Runner, error_between, gradient_parts
from fastgan.penalties.errors import NotSmoothError
from fastgan.penalties.modules import is_sharded
from fastgan.penalties.objective import slopes
from fastgan.penalties.outputs import Form, Outputs
from fastgan.penalties.penalty import Penalty
from fastgan.penalties.result import CriticLoss, GeneratorSide, loss_with_parts
from fastgan.penalties.step import CriticStep, of_samples_alone, with_penalties


def by_directional(step: CriticStep, options: Directional, compile: bool | str) -> CriticLoss:
    """The gradient of loss and penalties by differences of a smooth network's first derivatives."""
    critic = runner(step.network, step.outputs, options, compile)
    groups: dict[str, Group] = {}
    outputs: dict[str, tuple[list[Tensor], Form]] = {}
    for at, x, labels, penalised in step.sides():
        if penalised:
            groups[at] = Group(critic, x, labels, step.penalties_at(at), at)
            outputs[at] = groups[at].parts, groups[at].form
        else:
            with statistics_of(at, step.network), torch.enable_grad():
                outputs[at] = critic.run(x.detach(), *labels)
    try:
        loss, of_outputs, further = slopes(step.objective, outputs, [group.input for group in groups.values()])
    except NotAffineError as error:  # what was saved for these activations is gone
        raise NotSmoothError(f"directional: {error}") from None
    for at, group in groups.items():
        group.differentiate(of_outputs[at])
    alone = runner(step.network, step.outputs.alone(), options, compile)
    for name, penalty in step.penalties.items():
        if penalty.at not in outputs:
            groups[name] = Group(alone, step.points(penalty), step.labels, {name: penalty}, penalty.at)
            groups[name].differentiate()
    gradients = gradient_parts(list(groups.values()))
    estimate = error_between(gradients, gradient_parts(list(groups.values()), 2.0)) if options.estimate else None
    total, values, norms = with_penalties(loss, step.penalties, groups.values())
    gradients += of_samples_alone(outputs, of_outputs, groups)
    if further:
        gradients.append((loss, torch.ones_like(loss)))
    total = one_pass.deposit(total, [], gradients)
    real, fake = (form.judged(parts) for parts, form in (outputs["real"], outputs["fake"]))
    result = loss_with_parts(total, loss.detach(), values, norms, real, fake, _generator_side(step, groups.get("fake")))
    result.error_estimate = estimate
    return result


def penalty_by_directional(critic: Runner, x: Tensor, rest: Sequence[Any], name: str, penalty: Penalty) -> CriticLoss:
    """A penalty alone, at the points x."""
    group = Group(critic, x, rest, {name: penalty}, penalty.at)
    group.differentiate()
    gradients = gradient_parts([group])
    value = group.values[name]
    total = one_pass.deposit(value, [], gradients)
    logits = group.form.judged(group.parts)
    result = loss_with_parts(total, torch.zeros_like(value), group.values, group.norms, logits, None)
    if critic.options.estimate:
        result.error_estimate = error_between(gradients, gradient_parts([group], 2.0))
    return result


def runner(network: Callable[..., Any], outputs: Outputs, options: Directional, compile: bool | str) -> Runner:
    """The critic as a step runs it, compiled or not.

    Raises:
        ValueError: the error of a sharded critic's gradient is to be estimated, which is known in `.backward()` only.
    """
    if options.estimate and is_sharded(network):
        raise ValueError("Directional: estimate is True and the critic is under fully_shard, expected False there")
    return Runner(network, outputs, options, ordinary(network, outputs, _backend(compile)), bool(compile))


def _backend(compile: bool | str) -> str | None:
    return backend_of(compile) if compile else None


def _generator_side(step: CriticStep, fake: Group | None) -> GeneratorSide | None:
    if not step.fake.requires_grad:
        return None
    if fake is None:
        return GeneratorSide(step.fake, None, step.objective, lambda: False)
    fake.remember_weights()
    return GeneratorSide(step.fake, fake.gradient, step.objective, lambda: False, step.outputs.reduce, fake.pull)
