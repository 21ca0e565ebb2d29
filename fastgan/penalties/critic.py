"""`critic_loss` and `gradient_penalty`: the whole critic's side of a step in one call."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan.affine import NotAffineError
from fastgan.losses import Loss
from fastgan.nn import statistics_of
from fastgan.penalties import double_backward, one_pass
from fastgan.penalties.checks import (
    arguments,
    check_critic,
    check_penalties,
    check_penalty,
    check_reduction,
    check_samples,
)
from fastgan.penalties.choice import by_method, method_of
from fastgan.penalties.compiled import recorded_by
from fastgan.penalties.directional import Directional
from fastgan.penalties.directional_step import by_directional, penalty_by_directional, runner
from fastgan.penalties.errors import NotSmoothError
from fastgan.penalties.objective import Objective, objective_of
from fastgan.penalties.outputs import Outputs, Which
from fastgan.penalties.packs import of_packs
from fastgan.penalties.penalty import R1, Penalty
from fastgan.penalties.random_probe import by_random_probe, check_probed, probe
from fastgan.penalties.result import CriticLoss, loss_with_parts, named, sum_of_terms
from fastgan.penalties.step import CriticStep, by_double_backward, by_one_pass, by_witness
from fastgan.penalties.witness import Witness
from fastgan.penalties.wrappers import run_in_forward_of


def critic_loss(
    critic: Callable[..., Any],
    real: Tensor,  # [B, ...]
    fake: Tensor,  # [B', ...]
    *,
    loss: Objective = "nonsaturating",
    penalties: Sequence[Penalty] = (R1(10.0),),
    labels: Any = None,
    fake_labels: Any = None,
    judge: Which = None,
    reduce: str = "sum",
    method: str | Directional = "auto",
    compile: bool | str = False,
) -> CriticLoss:
    """The critic's objective with its gradient penalties; `.backward()` deposits the exact gradient.

        loss(D(real), D(fake)) + sum over penalties of mean_i rho(||grad_x D(x_i)||)

    A critic may give several numbers per sample: a map (PatchGAN), or a list or tuple of maps (scales, periods), also
    beside features or in a dict, where `judge` names what is judged. Of t = 1, 2, ... judged tensors of K_t numbers per
    sample each, a loss by name is the sum over t of its value on D_t, in which it takes means over samples and places,
    and the penalties are of the gradient of the number

        D(x_i) = sum over t, j of D_tj(x_i)     (reduce="mean": sum over t of 1/K_t sum over j of D_tj(x_i))

    The critic is called as critic(real), critic(fake) and then once for each further set of points (interpolates), in
    this order; a `fastgan.nn.PackedCritic` is called on packs, and a penalty is of the gradient of a whole pack. Split
    batch norms see each batch as `fastgan.nn.statistics_of` says. If the critic is piecewise affine in x sample by
    sample (`fastgan.explain` says), four passes give the gradient of everything: the price of an ordinary step and a
    third. If not, it is differentiated twice, exactly as well. A loss of several numbers per sample takes six passes.

    The gradient goes to the parameters, to whatever else weights were made of, and to what the loss depends
    on besides the outputs; never to `real` or `fake`.

    Args:
        critic: an nn.Module, or any function of a batch; also torch.compile'd or in DistributedDataParallel. Wrappers
            with hooks or a forward of their own are run as a part of the critic.
        real, fake: samples, of any dtype the critic takes.
        loss: a name as `fastgan.losses.parse` reads it, a `Loss`, or a function (real_logits, fake_logits) -> scalar,
            which is given all that the critic returns and may use any of it: classes, a code, features, an image.
            One of several numbers per sample (features, class logits) has the penalties of its witness function's
            gradient (`Loss.witness`), by double backward. `began` has a state: give the object, not the name.
        penalties: any of `fastgan.penalties`, e.g. (R1(10.0), R2(10.0)) or (WGANGP(10.0),); () for none, as a loss of
            several numbers without a witness needs.
        labels: passed on as critic(x, labels) if given; a tuple is passed on as further arguments. None for packs:
            every sample has a class, and a pack has none.
        fake_labels: the same for fake samples; default `labels`. Interpolates have the labels of the reals.
        judge: what is judged and penalised of several outputs: the index of a list or tuple, the key of a dict, or a
            function of what the critic returns, such as lambda outputs: outputs[0], which may give several tensors.
            None for the only tensor, or for every tensor of a list or tuple of maps of one number for each place ([B],
            [B, 1, ...], or [B, N] all of them).
        reduce: `sum` or `mean`: which number of a map is penalised, see above.
        method: `one_pass` raises where the critic does not qualify, `double_backward` where PyTorch cannot
            differentiate it twice, `directional` where it is not smooth; `auto` takes the first of them that can.
            `directional` takes first derivatives alone, whose difference has a small error: its settings are those of
            a `fastgan.penalties.Directional` in the place of the name. `random_probe` is no method but an estimate of
            R1 and R2 from one random direction, as several code bases have it. docs/gradient-penalties.md has more.
            `auto` runs the critic once or twice more when it first meets a kind of batch, to find out, and puts
            back what that changes: every tensor; attributes of the critic's modules, and containers, arrays and
            generators of random numbers in them; the same of closures, of the modules' hooks and of objects that these
            refer to; the global generators of PyTorch, Python and NumPy. What is printed or written, iterators, other
            objects of libraries, and globals that are assigned stay as the run leaves them.
        compile: run the passes of one_pass through torch.compile, with inductor or the backend named. The first call
            of a kind takes its time; whatever the critic's code depends on is guarded, so that a change compiles anew.
            Its code must have no graph breaks. Double backward is not compiled, which torch.compile refuses; of
            `directional` the displaced runs are.

    Returns:
        A scalar tensor with its parts as attributes, for logging: see `CriticLoss`.

    Raises:
        NotAffineError: method is `one_pass` and the critic does not qualify; says which operation of which module.
        NotSmoothError: method is `directional`; the same.
        NoMethodError: method is `auto` and no method has the gradient; says what stands in the way of each.
        ValueError, TypeError: an argument is not what is described here, or it has to be said what is judged.
    """
    check_critic("critic_loss", critic)
    check_penalties("critic_loss", penalties)
    penalised = named(penalties)
    objective, witness = objective_of("critic_loss", loss, penalised)
    outputs = Outputs(judge, reduce, whole=not isinstance(loss, (str, Loss)))
    check_samples("critic_loss", real=real, fake=fake)
    method, options = method_of("critic_loss", method)
    if method == "random_probe":
        check_probed("critic_loss", penalised)
    check_reduction("critic_loss", reduce)
    rest = arguments(labels)
    fake_rest = rest if fake_labels is None else arguments(fake_labels)
    distributed, network, (real, fake) = of_packs("critic_loss", critic, [*rest, *fake_rest], real, fake)

    step = CriticStep(network, outputs, objective, penalised, real, fake, rest, fake_rest)

    def body(*_: Any) -> CriticLoss:
        if witness is not None and penalised:
            return _by_witness(step, witness, method)
        ways = {
            "one_pass": lambda: by_one_pass(step, compile),
            "double_backward": lambda: by_double_backward(step),
            "directional": lambda: by_directional(step, options, compile),
            "random_probe": lambda: by_random_probe(step),
        }
        return by_method("critic_loss", method, network, step.penalised_calls(), step.penalised_outputs(), ways)

    result = run_in_forward_of(distributed, body, real, fake)
    side = result._generator_side
    if side is not None:
        side.objective = loss
    return result


def _by_witness(step: CriticStep, witness: Witness, method: str) -> CriticLoss:
    reason = "the loss is of several numbers per sample, and its penalties are of a function of them"
    if method == "one_pass":
        raise NotAffineError(f"one_pass cannot differentiate these penalties: {reason}")
    if method in ("directional", "random_probe"):
        raise NotSmoothError(f"{method} cannot take differences for these penalties: {reason}")
    result = by_witness(step, witness)
    result.method, result.reason = "double_backward", reason if method == "auto" else None
    return result


def gradient_penalty(
    critic: Callable[..., Any],
    x: Tensor,  # [B, ...]
    penalty: Penalty,
    *,
    labels: Any = None,
    judge: Which = None,
    reduce: str = "sum",
    method: str | Directional = "auto",
    compile: bool | str = False,
) -> CriticLoss:
    """A gradient penalty alone, at the points x: mean_i rho(||grad_x D(x_i)||).

    For a training loop that has its own loss, or a lazy penalty every few steps. WGAN-GP's interpolates are
    `fastgan.ops.interpolate(real, fake, seed)`. With R2, x are samples to split batch norms.

    Args, errors: as for `critic_loss`.

    Returns:
        A scalar with the attributes of `CriticLoss`; its `loss` is zero and `fake_logits` None.
    """
    check_critic("gradient_penalty", critic)
    check_penalty("gradient_penalty", "penalty", penalty)
    check_samples("gradient_penalty", x=x)
    method, options = method_of("gradient_penalty", method)
    check_reduction("gradient_penalty", reduce)
    outputs = Outputs(judge, reduce)
    rest = arguments(labels)
    penalised = named([penalty])
    if method == "random_probe":
        check_probed("gradient_penalty", penalised)
    distributed, network, (x,) = of_packs("gradient_penalty", critic, rest, x)

    def one() -> CriticLoss:
        with statistics_of(penalty.at, network):
            recorded = recorded_by(compile, outputs)(network, x.detach(), rest)
        evaluation = one_pass.Evaluation(x, penalised, recorded)
        evaluation.differentiate()
        (value,) = evaluation.values.values()
        total = one_pass.deposit(value, [evaluation])
        logits = recorded.form.judged(recorded.parts)
        return loss_with_parts(total, torch.zeros_like(value), evaluation.values, evaluation.norms, logits, None)

    def double() -> CriticLoss:
        with statistics_of(penalty.at, network):
            found = double_backward.gradient(network, x, rest, outputs)
        terms = {name: (p, found.g) for name, p in penalised.items()}
        return sum_of_terms(None, found.output.judged, None, terms)

    def directional() -> CriticLoss:
        (name,) = penalised
        return penalty_by_directional(runner(network, outputs, options, compile), x, rest, name, penalty)

    def probed() -> CriticLoss:
        with statistics_of(penalty.at, network), torch.enable_grad():
            parts, form, slope = probe(network, outputs, x.detach(), rest)
        terms = {name: (p, slope) for name, p in penalised.items()}
        return sum_of_terms(None, form.judged(parts), None, terms)

    def body(*_: Any) -> CriticLoss:
        ways = {"one_pass": one, "double_backward": double, "directional": directional, "random_probe": probed}
        return by_method("gradient_penalty", method, network, [(x, *rest)], outputs, ways)

    return run_in_forward_of(distributed, body, x)
