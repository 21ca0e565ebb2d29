"""The critic's side of one training step, and the ways to differentiate its penalties.

`CriticStep` is what one call of `critic_loss` works on. `by_one_pass` needs a piecewise affine critic;
`by_double_backward` takes any; `by_witness` is for losses of several numbers per sample. For a smooth critic there is
`directional_step.by_directional`.
"""

import weakref
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from fastgan.affine import NotAffineError, was_recorded
from fastgan.losses.structure import map_parts, tensors_of
from fastgan.nn import statistics_of
from fastgan.penalties import double_backward, one_pass
from fastgan.penalties.checks import check_scalar
from fastgan.penalties.compiled import backend_of, ordinary, recorded_by
from fastgan.penalties.eligibility import graph_was_needed, remember_graph, verdicts_of
from fastgan.penalties.objective import copied, leaves_of, slopes
from fastgan.penalties.outputs import Form, Outputs, Read
from fastgan.penalties.penalty import Penalty
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
        outputs: which of its outputs the objective is given, and which are penalised.
        objective: the loss as a function of those on real and fake samples.
        penalties: by their names.
        real, fake: samples, [B, ...] and [B', ...].
        labels: the network's further arguments for real samples and for points between real and fake ones.
        fake_labels: the same for fake samples.
    """

    network: Callable[..., Any]
    outputs: Outputs
    objective: Callable[[Any, Any], Tensor]
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

    def penalised_outputs(self) -> Outputs:
        """What is read of the outputs of those calls: what is judged alone where none of them is in the loss."""
        in_loss = any(side.penalised for side in self.sides())
        return self.outputs if in_loss else self.outputs.alone()

    def penalties_at(self, at: str) -> dict[str, Penalty]:
        return {name: penalty for name, penalty in self.penalties.items() if penalty.at == at}

    def points(self, penalty: Penalty) -> Tensor:
        """Where a penalty is taken that needs points besides the samples: [B, ...]."""
        return penalty.points(self.real.detach(), self.fake.detach())


def by_one_pass(step: CriticStep, compile: bool | str) -> CriticLoss:
    """The gradient of loss and penalties in four passes over a piecewise affine network, in six if it gives a map."""
    run = recorded_by(compile, step.outputs, keep_graph=graph_was_needed(step.network))
    run_alone = recorded_by(compile, step.outputs.alone())
    plain = ordinary(step.network, step.outputs, backend_of(compile) if compile else None)
    evaluations: dict[str, one_pass.Evaluation] = {}
    outputs: dict[str, tuple[list[Tensor], Form]] = {}
    for at, x, labels, penalised in step.sides():
        with statistics_of(at, step.network):
            if penalised:
                recorded = run(step.network, x.detach(), labels)
                evaluations[at] = one_pass.Evaluation(x, step.penalties_at(at), recorded)
                outputs[at] = recorded.parts, recorded.form
            else:  # nothing to penalise: three passes, by autograd
                with torch.enable_grad():
                    outputs[at] = plain(x.detach(), *labels)
                if any(was_recorded(leaf) for y in outputs[at][0] for leaf in leaves_of(y)):
                    raise NotAffineError("the critic's output depends on activations that an earlier call has kept")
    leaves = [e.recorded.leaf for e in evaluations.values() if e.recorded.differentiable is None]
    loss, of_outputs, further = slopes(step.objective, outputs, leaves)
    gradients = {at: evaluation.differentiate(of_outputs[at]) for at, evaluation in evaluations.items()}
    if evaluations:
        remember_graph(step.network, any(evaluation.slopes for evaluation in evaluations.values()))
    for name, penalty in step.penalties.items():
        if penalty.at not in outputs:
            points = step.points(penalty)
            again = one_pass.Evaluation(points, {name: penalty}, run_alone(step.network, points, step.labels))
            again.differentiate()
            evaluations[name] = again
    total, values, norms = with_penalties(loss, step.penalties, evaluations.values())
    others = [pair for evaluation in evaluations.values() for pair in evaluation.of_loss()]
    others += of_samples_alone(outputs, of_outputs, evaluations)
    if further:
        others.append((loss, torch.ones_like(loss)))
    total = one_pass.deposit(total, list(evaluations.values()), others)
    real, fake = (form.judged(parts) for parts, form in (outputs["real"], outputs["fake"]))
    side = None
    if step.fake.requires_grad:
        # Held by the result's graph alone, so that it goes with the masks.
        of_fake = weakref.ref(evaluations["fake"]) if "fake" in evaluations else lambda: None

        def pull(slopes: Sequence[Tensor]) -> Tensor | None:
            evaluation = of_fake()
            return None if evaluation is None else evaluation.pull(slopes)

        reduce = step.outputs.reduce
        side = GeneratorSide(step.fake, gradients.get("fake"), step.objective, lambda: True, reduce, pull)
    return loss_with_parts(total, loss.detach(), values, norms, real, fake, side)


class Penalised(Protocol):
    """Points where penalties were taken: the mean of each, and the norms of the gradients, by their names."""

    values: dict[str, Tensor]
    norms: dict[str, Tensor]


def with_penalties(
    loss: Tensor, names: Iterable[str], points: Iterable[Penalised]
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """The number that is minimised, and the penalties and norms of all points, in the order of the names."""
    points = list(points)
    values = {name: p.values[name] for name in names for p in points if name in p.values}
    norms = {name: p.norms[name] for name in names for p in points if name in p.norms}
    total = loss.detach()
    for value in values.values():
        total = total + value  # in the wider dtype of the two
    return total, values, norms


def of_samples_alone(
    outputs: Mapping[str, tuple[Sequence[Tensor], Form]],
    slopes: Mapping[str, Sequence[Tensor | None]],
    penalised: Container[str],
) -> list[tuple[Tensor, Tensor]]:
    """The outputs for samples without a penalty, which autograd knows, with the gradient that goes into each."""
    return [
        (y, dy)
        for at, (parts, _) in outputs.items()
        for y, dy in zip(parts, slopes[at], strict=True)
        if at not in penalised and y.requires_grad and dy is not None
    ]


def by_double_backward(step: CriticStep) -> CriticLoss:
    """The loss and penalties as autograd's graph, any network's: the gradient is differentiated again."""
    outputs: dict[str, Read] = {}
    points: dict[str, Tensor] = {}
    gradients: dict[str, Tensor] = {}
    for at, x, labels, penalised in step.sides():
        with statistics_of(at, step.network), torch.enable_grad():
            if penalised:
                points[at], outputs[at], gradients[at] = double_backward.gradient(step.network, x, labels, step.outputs)
            else:
                outputs[at] = step.outputs.read(step.network(x.detach(), *labels))
    with torch.enable_grad():  # before the critic runs again: the loss may depend on what its last run has saved
        loss = step.objective(*(map_parts(copied, outputs[at].shown) for at in ("real", "fake")))
        check_scalar("critic_loss", loss)
    terms: dict[str, tuple[Penalty, Tensor]] = {}
    for name, penalty in step.penalties.items():
        if penalty.at in outputs:
            terms[name] = penalty, gradients[penalty.at]
        else:
            elsewhere = step.points(penalty)
            with statistics_of(penalty.at, step.network):
                found = double_backward.gradient(step.network, elsewhere, step.labels, step.outputs)
            terms[name] = penalty, found.g
    side = None
    if step.fake.requires_grad:
        g = gradients.get("fake")
        call = (step.fake.detach(), *step.fake_labels)

        def separate() -> bool:
            return verdicts_of(step.network, [call], step.outputs)[0].eligible

        def pull(slopes: Sequence[Tensor]) -> Tensor | None:
            return double_backward.pulled(tensors_of(outputs["fake"].judged), points["fake"], slopes)

        g = None if g is None else g.detach()
        side = GeneratorSide(step.fake, g, step.objective, separate, step.outputs.reduce, pull)
    return sum_of_terms(loss, outputs["real"].judged, outputs["fake"].judged, terms, side)


def by_witness(step: CriticStep, witness: Witness) -> CriticLoss:
    """The penalties of the gradient of the objective's witness function, by double backward."""
    passes: dict[str, Pass] = {}
    for at, x, labels, penalised in step.sides():
        if penalised:
            passes[at] = Pass.differentiable(step.network, step.outputs, at, x, labels)
        else:
            with statistics_of(at, step.network), torch.enable_grad():
                passes[at] = Pass(x, step.outputs.features(step.network(x.detach(), *labels)))
    real, fake = passes["real"].features, passes["fake"].features
    with torch.enable_grad():
        loss = step.objective(real, fake)
        check_scalar("critic_loss", loss)
    terms: dict[str, tuple[Penalty, Tensor]] = {}
    for name, penalty in step.penalties.items():
        points = passes.get(penalty.at)
        if points is None:
            points = Pass.differentiable(step.network, step.outputs, penalty.at, step.points(penalty), step.labels)
        terms[name] = penalty, witness_gradient(witness, points, (real, fake))
    side = GeneratorSide(step.fake, None, step.objective, lambda: False) if step.fake.requires_grad else None
    return sum_of_terms(loss, real, fake, terms, side)
