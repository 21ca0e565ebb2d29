"""`critic_loss` and `gradient_penalty`: the whole critic's side of a step in one call."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastgan.affine import NotAffineError
from fastgan.losses import Loss
from fastgan.losses import parse as parse_loss
from fastgan.losses.began import Began
from fastgan.nn import statistics_of
from fastgan.ops.checks import check_floating
from fastgan.penalties import double_backward, one_pass
from fastgan.penalties.compiled import backend_of, ordinary, recorded
from fastgan.penalties.eligibility import forget, verdict
from fastgan.penalties.packs import of_packs
from fastgan.penalties.penalty import R1, Penalty
from fastgan.penalties.result import CriticLoss, GeneratorSide, named, with_parts
from fastgan.penalties.witness import Witness, check_witness
from fastgan.penalties.witness import gradients as witness_gradients
from fastgan.penalties.wrappers import inside

METHODS = ("auto", "one_pass", "double_backward")

Objective = str | Loss | Callable[[Tensor, Tensor], Tensor]


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

    The gradient goes to the critic's parameters and whatever else its weights were made of; never to `real` or `fake`.

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
            the first that can. It runs the critic once more when it first meets a kind of batch, to find out.
        compile: run the passes of one_pass through torch.compile, with inductor or the backend named. The first call
            of a kind takes its time; whatever the critic's code depends on is guarded, so that a change compiles anew.
            What cannot be compiled (a graph break, more shapes than torch._dynamo.config.recompile_limit, a failing
            backend) runs without, exactly as well, after one warning. Double backward is never compiled.

    Returns:
        A scalar tensor with its parts as attributes, for logging: see `CriticLoss`.

    Raises:
        NotAffineError: method is `one_pass` and the critic does not qualify; says which operation of which module.
        ValueError, TypeError: an argument is not what is described here.
    """
    penalised = named(penalties)
    objective, witness = _objective(loss, penalised)
    _check_samples(real=real, fake=fake)
    _check_method(method)
    rest = _arguments(labels)
    fake_rest = rest if fake_labels is None else _arguments(fake_labels)
    critic, network, (real, fake) = of_packs("critic_loss", critic, [*rest, *fake_rest], real, fake)

    def body(*_: Any) -> CriticLoss:
        if witness is not None and penalised:
            return _of_witness(method, network, real, fake, objective, witness, penalised, rest, fake_rest)
        return _either(
            method,
            network,
            [(real, *rest)] + [(fake, *fake_rest)] * any(p.at == "fake" for p in penalised.values()),
            lambda: _one_pass(network, real, fake, objective, penalised, rest, fake_rest, compile),
            lambda: _double_backward(network, real, fake, objective, penalised, rest, fake_rest),
            needed=bool(penalised),
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
    _check_samples(x=x)
    _check_method(method)
    rest = _arguments(labels)
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
        return _either(method, network, [(x, *rest)], one, double, needed=True)

    return inside(critic, body, x)


# --- the two methods --------------------------------------------------------------------------------------------------


def _either(
    method: str,
    network: Callable[..., Tensor],
    calls: list[tuple],
    one: Callable[[], CriticLoss],
    double: Callable[[], CriticLoss],
    needed: bool,
) -> CriticLoss:
    """Runs the method that was asked for, or that the critic qualifies for."""
    reason = None
    if method == "auto" and needed:
        reason = next(filter(None, (verdict(network, *arguments).reason for arguments in calls)), None)
    if method == "one_pass" or (method == "auto" and reason is None):
        try:
            result = one()
            result.method, result.reason = "one_pass", None
            return result
        except NotAffineError as error:
            if method == "one_pass":
                found = next(filter(None, (verdict(network, *arguments).reason for arguments in calls)), None)
                raise NotAffineError(f"one_pass cannot differentiate this critic: {found or error}") from None
            # It was eligible when it was looked at, and has changed since (a flag, a branch that depends on the data).
            reason = forget(network, str(error))
            warnings.warn(f"fastgan.critic_loss falls back to double backward: {error}", stacklevel=4)
    result = double()
    result.method, result.reason = "double_backward", reason
    return result


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
                    outputs[at] = plain(x.detach(), *more)
    with torch.enable_grad():
        logits = {at: y.detach().requires_grad_() for at, y in outputs.items()}
        loss = objective(logits["real"], logits["fake"])
        _check_scalar(loss)
        found = torch.autograd.grad(loss, list(logits.values()), allow_unused=True)
    s = {at: torch.zeros_like(y) if g is None else g for (at, y), g in zip(logits.items(), found, strict=True)}
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
    others = [(y, s[at]) for at, y in outputs.items() if at not in evaluations and y.requires_grad]
    total = one_pass.deposit(total, list(evaluations.values()), others)
    side = GeneratorSide(fake, gradients.get("fake"), objective) if fake.requires_grad else None
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
                outputs[at] = network(x.detach(), *more)
    terms: dict[str, tuple[Penalty, Tensor]] = {}
    for name, p in penalised.items():
        if p.at in outputs:
            terms[name] = p, gradients[p.at]
        else:
            points = p.points(real.detach(), fake.detach())
            with statistics_of(p.at, network):
                terms[name] = p, double_backward.gradient(network, points, rest)[1]
    with torch.enable_grad():
        loss = objective(outputs["real"], outputs["fake"])
        _check_scalar(loss)
    g = gradients.get("fake")
    side = GeneratorSide(fake, None if g is None else g.detach(), objective) if fake.requires_grad else None
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
    of_real, of_fake, gradients = witness_gradients(network, real, fake, witness, penalised, rest, fake_rest)
    with torch.enable_grad():
        loss = objective(of_real, of_fake)
        _check_scalar(loss)
    side = GeneratorSide(fake, None, objective) if fake.requires_grad else None
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


# --- arguments --------------------------------------------------------------------------------------------------------


def _objective(
    loss: Objective, penalised: Mapping[str, Penalty]
) -> tuple[Callable[[Tensor, Tensor], Tensor], Witness | None]:
    if isinstance(loss, str):
        name = loss
        try:
            loss = parse_loss(name)
        except ValueError as error:
            raise ValueError(f"critic_loss: loss is {error}, or a function") from None
        if isinstance(loss, Began):  # a fresh one at every call, whose k never moves
            raise ValueError(
                f"critic_loss: loss is {name!r}, which has a state, expected an object that is kept: "
                f"began = fastgan.losses.parse({name!r}), and began.update(total.real_logits, total.fake_logits) after "
                "each of the critic's steps"
            )
    if isinstance(loss, Loss):
        check_witness("critic_loss", loss, penalised)
        return loss.critic, loss.witness
    if not callable(loss):
        raise TypeError(f"critic_loss: loss is {type(loss).__name__}, expected a name, a Loss or a function")
    return loss, None


def _check_samples(**tensors: Tensor) -> None:
    for name, x in tensors.items():
        check_floating("critic_loss", name, x)
        if x.ndim < 1:
            raise ValueError(f"critic_loss: {name} has no dimensions, expected [samples, ...]")


def _check_method(method: str) -> None:
    if method not in METHODS:
        raise ValueError(f"critic_loss: method is {method!r}, expected one of {', '.join(METHODS)}")


def _check_scalar(loss: Any) -> None:
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        what = f"shape {list(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(f"critic_loss: loss returned {what}, expected a scalar tensor")


def _arguments(labels: Any) -> tuple:
    if labels is None:
        return ()
    return labels if isinstance(labels, tuple) else (labels,)
