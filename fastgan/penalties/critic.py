"""`critic_loss` and `gradient_penalty`: the whole critic's side of a step in one call."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastgan.affine import NotAffineError
from fastgan.nn import statistics_of
from fastgan.penalties import double_backward, one_pass
from fastgan.penalties.checks import arguments, check_method, check_samples, check_scalar, one_tensor
from fastgan.penalties.choice import either
from fastgan.penalties.compiled import backend_of, ordinary, recorded
from fastgan.penalties.eligibility import verdicts_of
from fastgan.penalties.objective import Objective, objective_of, slopes
from fastgan.penalties.packs import of_packs
from fastgan.penalties.penalty import R1, Penalty
from fastgan.penalties.result import CriticLoss, GeneratorSide, named, with_parts
from fastgan.penalties.witness import Witness
from fastgan.penalties.witness import gradients as witness_gradients
from fastgan.penalties.witness import passes as witness_passes
from fastgan.penalties.wrappers import inside


def critic_loss(
    critic: Callable[..., Tensor],
    real: Tensor,  # [B, ...]
    fake: Tensor,  # [B', ...]
    *,
    loss: Objective = "nonsaturating",
    penalties: Sequence[Penalty] = (R1(10.0),),
    labels: Any = None,
    fake_labels: Any = None,
    method: str = "auto",
    compile: bool | str = False,
) -> CriticLoss:
    """The critic's objective with its gradient penalties; `.backward()` deposits the exact gradient.

        loss(D(real), D(fake)) + sum over penalties of mean_i rho(||grad_x D(x_i)||)

    The critic is called as critic(real), critic(fake) and then once for each further set of points (interpolates), in
    this order; a `fastgan.nn.PackedCritic` is called on packs, and a penalty is of the gradient of a whole pack. Split
    batch norms see each batch as `fastgan.nn.statistics_of` says. If the critic is piecewise affine in x sample by
    sample (`fastgan.explain` says), four passes give the gradient of everything: the price of an ordinary step and a
    third. If not, it is differentiated twice, exactly as well.

    The gradient goes to the parameters, to whatever else weights were made of, and to what the loss depends
    on besides the outputs; never to `real` or `fake`.

    Args:
        critic: an nn.Module, or any function of a batch; also torch.compile'd or in DistributedDataParallel.
        real, fake: samples, of any dtype the critic takes.
        loss: a name as `fastgan.losses.parse` reads it, a `Loss`, or a function (real_logits, fake_logits) -> scalar.
            One of several numbers per sample (features, class logits) has the penalties of its witness function's
            gradient (`Loss.witness`), by double backward. `began` has a state: give the object, not the name.
        penalties: any of `fastgan.penalties`, e.g. (R1(10.0), R2(10.0)) or (WGANGP(10.0),); () for none, as a loss of
            several numbers without a witness needs.
        labels: passed on as critic(x, labels) if given; a tuple is passed on as further arguments. None for packs:
            every sample has a class, and a pack has none.
        fake_labels: the same for fake samples; default `labels`. Interpolates have the labels of the reals.
        method: `one_pass` raises where the critic does not qualify, `double_backward` always works, `auto` takes
            the first that can. It runs the critic once more when it first meets a kind of batch, to find out, and puts
            back what that changes.
        compile: run the passes of one_pass through torch.compile, with inductor or the backend named. The first call
            of a kind takes its time; whatever the critic's code depends on is guarded, so that a change compiles anew.
            Its code must have no graph breaks. Double backward is not compiled, which torch.compile refuses.

    Returns:
        A scalar tensor with its parts as attributes, for logging: see `CriticLoss`.

    Raises:
        NotAffineError: method is `one_pass` and the critic does not qualify; says which operation of which module.
        ValueError, TypeError: an argument is not what is described here, or the critic returns more than one tensor.
    """
    penalised = named(penalties)
    objective, witness = objective_of("critic_loss", loss, penalised)
    check_samples("critic_loss", real=real, fake=fake)
    check_method("critic_loss", method)
    rest = arguments(labels)
    fake_rest = rest if fake_labels is None else arguments(fake_labels)
    critic, network, (real, fake) = of_packs("critic_loss", critic, [*rest, *fake_rest], real, fake)

    def body(*_: Any) -> CriticLoss:
        if witness is not None and penalised:
            return _of_witness(method, network, real, fake, objective, witness, penalised, rest, fake_rest)
        calls = [(real, *rest)] if any(p.at != "fake" for p in penalised.values()) else []
        calls += [(fake, *fake_rest)] if any(p.at == "fake" for p in penalised.values()) else []
        return either(
            "critic_loss",
            method,
            network,
            calls,
            lambda: _one_pass(network, real, fake, objective, penalised, rest, fake_rest, compile),
            lambda: _double_backward(network, real, fake, objective, penalised, rest, fake_rest),
        )

    result = inside(critic, body, real, fake)
    side = result._generator_side
    if side is not None:
        side.objective = loss
    return result


def gradient_penalty(
    critic: Callable[..., Tensor],
    x: Tensor,  # [B, ...]
    penalty: Penalty,
    *,
    labels: Any = None,
    method: str = "auto",
    compile: bool | str = False,
) -> CriticLoss:
    """A gradient penalty alone, at the points x: mean_i rho(||grad_x D(x_i)||).

    For a training loop that has its own loss, or a lazy penalty every few steps. WGAN-GP's interpolates are
    `fastgan.ops.interpolate(real, fake, seed)`. With R2, x are samples to split batch norms.

    Args, errors: as for `critic_loss`.

    Returns:
        A scalar with the attributes of `CriticLoss`; its `loss` is zero and `fake_logits` None.
    """
    check_samples("gradient_penalty", x=x)
    check_method("gradient_penalty", method)
    rest = arguments(labels)
    penalised = named([penalty])
    critic, network, (x,) = of_packs("gradient_penalty", critic, rest, x)

    def one() -> CriticLoss:
        with statistics_of(penalty.at, network):
            evaluation = one_pass.Evaluation(network, x, rest, penalised, _runner(compile))
        evaluation.differentiate(None)
        (value,) = evaluation.values.values()
        total = one_pass.deposit(value, [evaluation])
        return _result(
            total, torch.zeros_like(value), evaluation.values, evaluation.norms, evaluation.recorded.logits, None
        )

    def double() -> CriticLoss:
        with statistics_of(penalty.at, network):
            output, g, _ = double_backward.gradient(network, x, rest)
        return _total(None, output, None, {name: (p, g) for name, p in penalised.items()})

    def body(*_: Any) -> CriticLoss:
        return either("gradient_penalty", method, network, [(x, *rest)], one, double)

    return inside(critic, body, x)


# --- the two methods --------------------------------------------------------------------------------------------------


def _runner(compile: bool | str) -> Callable[..., one_pass.Recorded]:
    return partial(recorded, backend=backend_of(compile)) if compile else one_pass.OnTape


def _one_pass(
    network: Callable[..., Tensor],
    real: Tensor,
    fake: Tensor,
    objective: Callable[[Tensor, Tensor], Tensor],
    penalised: dict[str, Penalty],
    rest: tuple,
    fake_rest: tuple,
    compile: bool | str,
) -> CriticLoss:
    run = _runner(compile)
    plain = ordinary(network, backend_of(compile)) if compile else network
    evaluations: dict[str, one_pass.Evaluation] = {}
    outputs: dict[str, Tensor] = {}
    for at, x, more in (("real", real, rest), ("fake", fake, fake_rest)):
        here = {name: p for name, p in penalised.items() if p.at == at}
        with statistics_of(at, network):
            if here:
                evaluations[at] = one_pass.Evaluation(network, x, more, here, run)
                outputs[at] = evaluations[at].recorded.logits
            else:  # nothing to penalise: three passes, by autograd
                with torch.enable_grad():
                    outputs[at] = one_tensor(plain(x.detach(), *more))
    leaves = [evaluation.recorded.leaf for evaluation in evaluations.values()]
    loss, s, further = slopes(objective, outputs, leaves)
    gradients = {at: evaluation.differentiate(s[at]) for at, evaluation in evaluations.items()}
    elsewhere = [(name, p) for name, p in penalised.items() if p.at not in outputs]
    for name, p in elsewhere:
        points = p.points(real.detach(), fake.detach())
        evaluations[name] = one_pass.Evaluation(network, points, rest, {name: p}, run)
        evaluations[name].differentiate(None)
    values = {name: e.values[name] for name in penalised for e in evaluations.values() if name in e.values}
    norms = {name: e.norms[name] for name in penalised for e in evaluations.values() if name in e.norms}
    total = loss.detach()
    for value in values.values():
        total = total + value  # in the wider dtype of the two
    others = [
        (y, slope)
        for at, y in outputs.items()
        if at not in evaluations and y.requires_grad and (slope := s[at]) is not None
    ]
    if further:
        others.append((loss, torch.ones_like(loss)))
    total = one_pass.deposit(total, list(evaluations.values()), others)
    side = GeneratorSide(fake, gradients.get("fake"), objective, lambda: True) if fake.requires_grad else None
    real_logits, fake_logits = (outputs[at].detach() for at in ("real", "fake"))
    return _result(total, loss.detach(), values, norms, real_logits, fake_logits, side)


def _double_backward(
    network: Callable[..., Tensor],
    real: Tensor,
    fake: Tensor,
    objective: Callable[[Tensor, Tensor], Tensor],
    penalised: dict[str, Penalty],
    rest: tuple,
    fake_rest: tuple,
) -> CriticLoss:
    outputs: dict[str, Tensor] = {}
    gradients: dict[str, Tensor] = {}
    for at, x, more in (("real", real, rest), ("fake", fake, fake_rest)):
        with statistics_of(at, network), torch.enable_grad():
            if any(p.at == at for p in penalised.values()):
                outputs[at], gradients[at], _ = double_backward.gradient(network, x, more)
            else:
                outputs[at] = one_tensor(network(x.detach(), *more))
    with torch.enable_grad():  # before the critic runs again: the loss may depend on what its last run has saved
        loss = objective(outputs["real"], outputs["fake"])
        check_scalar("critic_loss", loss)
    terms: dict[str, tuple[Penalty, Tensor]] = {}
    for name, p in penalised.items():
        if p.at in outputs:
            terms[name] = p, gradients[p.at]
        else:
            points = p.points(real.detach(), fake.detach())
            with statistics_of(p.at, network):
                terms[name] = p, double_backward.gradient(network, points, rest)[1]
    g = gradients.get("fake")
    side = None
    if fake.requires_grad:
        call = (fake.detach(), *fake_rest)
        separate = lambda: verdicts_of(network, [call])[0].eligible  # noqa: E731
        side = GeneratorSide(fake, None if g is None else g.detach(), objective, separate)
    return _total(loss, outputs["real"], outputs["fake"], terms, side)


def _of_witness(
    method: str,
    network: Callable[..., Tensor],
    real: Tensor,
    fake: Tensor,
    objective: Callable[[Tensor, Tensor], Tensor],
    witness: Witness,
    penalised: dict[str, Penalty],
    rest: tuple,
    fake_rest: tuple,
) -> CriticLoss:
    reason = "the loss is of several numbers per sample, and its penalties are of a function of them"
    if method == "one_pass":
        raise NotAffineError(f"one_pass cannot differentiate these penalties: {reason}")
    passes = witness_passes(network, real, fake, penalised, rest, fake_rest)
    of_real, of_fake = (passes[at].features for at in ("real", "fake"))
    with torch.enable_grad():
        loss = objective(of_real, of_fake)
        check_scalar("critic_loss", loss)
    gradients = witness_gradients(network, passes, witness, penalised, rest)
    side = GeneratorSide(fake, None, objective, lambda: False) if fake.requires_grad else None
    result = _total(loss, of_real, of_fake, {name: (p, gradients[name]) for name, p in penalised.items()}, side)
    result.method, result.reason = "double_backward", reason if method == "auto" else None
    return result


def _total(
    loss: Tensor | None,
    real_logits: Tensor,
    fake_logits: Tensor | None,
    terms: dict[str, tuple[Penalty, Tensor]],
    side: GeneratorSide | None = None,
) -> CriticLoss:
    """The sum of the loss and the differentiable penalties."""
    values, norms = {}, {}
    with torch.enable_grad():
        total = loss
        for name, (p, g) in terms.items():
            value = p.rho(g).mean()
            total = value if total is None else total + value
            values[name] = value.detach()
            wide = g.detach() if g.dtype == torch.float64 else g.detach().float()
            norms[name] = torch.linalg.vector_norm(wide.flatten(1), dim=1)
    assert total is not None
    plain = torch.zeros_like(total.detach()) if loss is None else loss.detach()
    return _result(total, plain, values, norms, real_logits, fake_logits, side)


def _result(
    total: Tensor,
    loss: Tensor,
    values: dict[str, Tensor],
    norms: dict[str, Tensor],
    real_logits: Tensor,
    fake_logits: Tensor | None,
    side: GeneratorSide | None = None,
) -> CriticLoss:
    return with_parts(
        total,
        loss=loss,
        penalties=values,
        gradient_norms=norms,
        real_logits=real_logits.detach(),
        fake_logits=None if fake_logits is None else fake_logits.detach(),
        _generator_side=side,
    )
