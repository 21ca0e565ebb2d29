"""The critic's side of one training step, and the ways to differentiate its penalties.

`CriticStep` is what one call of `critic_loss` works on. `by_one_pass` needs a piecewise affine critic, `by_directional`
a smooth one; `by_double_backward` takes any; `by_witness` is for losses of several numbers per sample;
`by_random_probe` is no method but what others use in place of one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastgan.affine import NotAffineError, was_recorded
from fastgan.nn import statistics_of
from fastgan.penalties import double_backward, one_pass
from fastgan.penalties.checks import check_scalar, one_tensor
from fastgan.penalties.compiled import backend_of, ordinary, recorded_by
from fastgan.penalties.directional import Directional, Group, error_between, gradient_parts
from fastgan.penalties.eligibility import verdicts_of
from fastgan.penalties.errors import NotSmoothError
from fastgan.penalties.objective import leaves_of, slopes
from fastgan.penalties.penalty import Penalty
from fastgan.penalties.random_probe import probe
from fastgan.penalties.result import CriticLoss, GeneratorSide, loss_with_parts, sum_of_terms
from fastgan.penalties.witness import Pass, Witness, witness_gradient


class Side(NamedTuple):
    """The samples of one side.

    Attributes:
        at: `real` or `fake`.
        x: the samples, [B, ...].
        labels: the critic's further arguments for them.
        penalised: whether a penalty is taken at these samples.
    """

    at: str
    x: Tensor
    labels: tuple
    penalised: bool


@dataclass(frozen=True, eq=False)
class CriticStep:
    """One call of `critic_loss`.

    Attributes:
        network: the critic inside its wrappers.
        objective: the loss as a function of the network's outputs on real and fake samples.
        penalties: by their names.
        real, fake: samples, [B, ...] and [B', ...].
        labels: the network's further arguments for real samples and for points between real and fake ones.
        fake_labels: the same for fake samples.
    """

    network: Callable[..., Tensor]
    objective: Callable[[Tensor, Tensor], Tensor]
    penalties: dict[str, Penalty]
    real: Tensor
    fake: Tensor
    labels: tuple
    fake_labels: tuple

    def sides(self) -> Iterator[Side]:
        """The real samples, then the fake ones: the order in which the critic is called."""
        at = {penalty.at for penalty in self.penalties.values()}
        yield Side("real", self.real, self.labels, "real" in at)
        yield Side("fake", self.fake, self.fake_labels, "fake" in at)

    def penalised_calls(self) -> list[tuple[Any, ...]]:
        """The arguments of the network's calls whose gradient is penalised; for all but fake samples, the real ones."""
        on_fake = [penalty.at == "fake" for penalty in self.penalties.values()]
        calls = [(self.real, *self.labels)] if not all(on_fake) else []
        return [*calls, (self.fake, *self.fake_labels)] if any(on_fake) else calls

    def penalties_at(self, at: str) -> dict[str, Penalty]:
        return {name: penalty for name, penalty in self.penalties.items() if penalty.at == at}

    def points(self, penalty: Penalty) -> Tensor:
        """Where a penalty is taken that needs points besides the samples: [B, ...]."""
        return penalty.points(self.real.detach(), self.fake.detach())


def by_one_pass(step: CriticStep, compile: bool | str) -> CriticLoss:
    """The gradient of loss and penalties in four passes over a piecewise affine network."""
    run = recorded_by(compile)
    plain = ordinary(step.network, backend_of(compile)) if compile else step.network
    evaluations: dict[str, one_pass.Evaluation] = {}
    outputs: dict[str, Tensor] = {}
    for at, x, labels, penalised in step.sides():
        with statistics_of(at, step.network):
            if penalised:
                evaluations[at] = one_pass.Evaluation(step.network, x, labels, step.penalties_at(at), run)
                outputs[at] = evaluations[at].recorded.logits
            else:  # nothing to penalise: three passes, by autograd
                with torch.enable_grad():
                    outputs[at] = one_tensor(plain(x.detach(), *labels))
                if any(was_recorded(leaf) for leaf in leaves_of(outputs[at])):
                    raise NotAffineError("the critic's output depends on activations that an earlier call has kept")
    leaves = [evaluation.recorded.leaf for evaluation in evaluations.values()]
    loss, output_gradients, further = slopes(step.objective, outputs, leaves)
    gradients = {at: evaluation.differentiate(output_gradients[at]) for at, evaluation in evaluations.items()}
    for name, penalty in step.penalties.items():
        if penalty.at not in outputs:
            run_again = one_pass.Evaluation(step.network, step.points(penalty), step.labels, {name: penalty}, run)
            run_again.differentiate(None)
            evaluations[name] = run_again
    values = {name: e.values[name] for name in step.penalties for e in evaluations.values() if name in e.values}
    norms = {name: e.norms[name] for name in step.penalties for e in evaluations.values() if name in e.norms}
    total = loss.detach()
    for value in values.values():
        total = total + value  # in the wider dtype of the two
    others = [
        (y, dy)
        for at, y in outputs.items()
        if at not in evaluations and y.requires_grad and (dy := output_gradients[at]) is not None
    ]
    if further:
        others.append((loss, torch.ones_like(loss)))
    total = one_pass.deposit(total, list(evaluations.values()), others)
    side = None
    if step.fake.requires_grad:
        side = GeneratorSide(step.fake, gradients.get("fake"), step.objective, lambda: True)
    return loss_with_parts(total, loss.detach(), values, norms, outputs["real"], outputs["fake"], side)


def by_double_backward(step: CriticStep) -> CriticLoss:
    """The loss and penalties as autograd's graph, any network's: the gradient is differentiated again."""
    outputs: dict[str, Tensor] = {}
    gradients: dict[str, Tensor] = {}
    for at, x, labels, penalised in step.sides():
        with statistics_of(at, step.network), torch.enable_grad():
            if penalised:
                outputs[at], gradients[at] = double_backward.gradient(step.network, x, labels)
            else:
                outputs[at] = one_tensor(step.network(x.detach(), *labels))
    with torch.enable_grad():  # before the critic runs again: the loss may depend on what its last run has saved
        loss = step.objective(outputs["real"].clone(), outputs["fake"].clone())  # which it may change in place
        check_scalar("critic_loss", loss)
    terms: dict[str, tuple[Penalty, Tensor]] = {}
    for name, penalty in step.penalties.items():
        if penalty.at in outputs:
            terms[name] = penalty, gradients[penalty.at]
        else:
            points = step.points(penalty)
            with statistics_of(penalty.at, step.network):
                terms[name] = penalty, double_backward.gradient(step.network, points, step.labels)[1]
    side = None
    if step.fake.requires_grad:
        g = gradients.get("fake")
        call = (step.fake.detach(), *step.fake_labels)

        def separate() -> bool:
            return verdicts_of(step.network, [call])[0].eligible

        side = GeneratorSide(step.fake, None if g is None else g.detach(), step.objective, separate)
    return sum_of_terms(loss, outputs["real"], outputs["fake"], terms, side)


def by_witness(step: CriticStep, witness: Witness) -> CriticLoss:
    """The penalties of the gradient of the objective's witness function, by double backward."""
    passes: dict[str, Pass] = {}
    for at, x, labels, penalised in step.sides():
        if penalised:
            passes[at] = Pass.differentiable(step.network, at, x, labels)
        else:
            with statistics_of(at, step.network), torch.enable_grad():
                passes[at] = Pass(x, one_tensor(step.network(x.detach(), *labels)))
    real, fake = passes["real"].features, passes["fake"].features
    with torch.enable_grad():
        loss = step.objective(real, fake)
        check_scalar("critic_loss", loss)
    terms: dict[str, tuple[Penalty, Tensor]] = {}
    for name, penalty in step.penalties.items():
        points = passes.get(penalty.at)
        if points is None:
            points = Pass.differentiable(step.network, penalty.at, step.points(penalty), step.labels)
        terms[name] = penalty, witness_gradient(witness, points, (real, fake))
    side = GeneratorSide(step.fake, None, step.objective, lambda: False) if step.fake.requires_grad else None
    return sum_of_terms(loss, real, fake, terms, side)


def by_directional(step: CriticStep, options: Directional, compile: bool | str) -> CriticLoss:
    """The gradient of loss and penalties by differences of a smooth network's first derivatives."""
    run = ordinary(step.network, backend_of(compile)) if compile else step.network
    groups: dict[str, Group] = {}
    outputs: dict[str, Tensor] = {}
    for at, x, labels, penalised in step.sides():
        if penalised:
            groups[at] = Group(step.network, x, labels, step.penalties_at(at), options, run, at)
            outputs[at] = groups[at].output
        else:
            with statistics_of(at, step.network), torch.enable_grad():
                outputs[at] = one_tensor(run(x.detach(), *labels))
    try:
        loss, output_gradients, further = slopes(step.objective, outputs, [group.input for group in groups.values()])
    except NotAffineError as error:  # what was saved for these activations is gone
        raise NotSmoothError(f"directional: {error}") from None
    for at, group in groups.items():
        s = output_gradients[at]
        group.differentiate(torch.zeros_like(group.output) if s is None else s)
    for name, penalty in step.penalties.items():
        if penalty.at not in outputs:
            groups[name] = Group(
                step.network, step.points(penalty), step.labels, {name: penalty}, options, run, penalty.at
            )
            groups[name].differentiate(None)
    parts = gradient_parts(list(groups.values()))
    estimate = error_between(parts, gradient_parts(list(groups.values()), 2.0)) if options.estimate else None
    values = {name: group.values[name] for name in step.penalties for group in groups.values() if name in group.values}
    norms = {name: group.norms[name] for name in step.penalties for group in groups.values() if name in group.norms}
    total = loss.detach()
    for value in values.values():
        total = total + value
    for at, y in outputs.items():
        if at not in groups and y.requires_grad and (dy := output_gradients[at]) is not None:
            parts.append((y, dy))
    if further:
        parts.append((loss, torch.ones_like(loss)))
    side = None
    if step.fake.requires_grad:
        fake = groups.get("fake")
        separate = fake is not None and not fake.verdict.coupled
        side = GeneratorSide(step.fake, None if fake is None else fake.gradient, step.objective, lambda: separate)
    total = one_pass.deposit(total, [], parts)
    result = loss_with_parts(total, loss.detach(), values, norms, outputs["real"], outputs["fake"], side)
    result.error_estimate = estimate
    return result


def by_random_probe(step: CriticStep) -> CriticLoss:
    """The loss, and R1 and R2 estimated from one random direction for each sample."""
    outputs: dict[str, Tensor] = {}
    probes: dict[str, Tensor] = {}
    for at, x, labels, penalised in step.sides():
        with statistics_of(at, step.network), torch.enable_grad():
            outputs[at] = one_tensor(step.network(x.detach(), *labels))
            if penalised:
                probes[at] = probe(step.network, x.detach(), labels, outputs[at])
    with torch.enable_grad():
        loss = step.objective(outputs["real"].clone(), outputs["fake"].clone())
        check_scalar("critic_loss", loss)
    terms = {name: (penalty, probes[penalty.at]) for name, penalty in step.penalties.items()}
    return sum_of_terms(loss, outputs["real"], outputs["fake"], terms)
