"""Checks of a program: every method gives the textbook's numbers, and `auto` never fails alone."""

import random
import re
import warnings
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from fastgan import NotAffineError, NotSmoothError
from fastgan.penalties import programs
from tests.fuzz import comparing
from tests.fuzz.program import Program
from tests.fuzz.running import Outcome, run

ILL = 1e-5
"""A perturbation of 1e-9 that changes the textbook's own numbers by more leaves nothing to compare: a kink within
rounding, a gradient norm of rounding noise, an amplification above 10,000."""

DIVERGED = 1e12
"""Values above this are of steps that have made rounding errors larger than numbers near 1."""

KEPT_BY_AN_OP = re.compile("which is output 0 of (Attention|BiasAct|ScaledBiasAct|_PReLU|_Piecewise), is at version")
TORCH_NORM = re.compile(r"(parametrizations|nn\.utils)\.spectral_norm\(")
SLOPE_ZERO = re.compile(r"\b(sign|sgn|round|floor|ceil|trunc|heaviside)\(")
NO_GRADIENT = "does not require grad and does not have a grad_fn"
COUNTS_CALLS = re.compile(r"self\.\w+ \+= 1\b")
CHANGED_IN_PLACE = re.compile("modified in place between|modified by an inplace operation")


@dataclass
class Failure:
    """What went wrong.

    Attributes:
        method: by which method of critic_loss.
        kind: "gradient", "value", "state", "None", "raises", "declines", "explain".
        detail: in words.
    """

    method: str
    kind: str
    detail: str

    @property
    def key(self) -> tuple[str, str]:
        """Failures of one key may have one cause."""
        return self.method, self.kind + (": " + normalised(self.detail) if self.kind == "raises" else "")


@dataclass
class Verdict:
    """What was found of one program.

    Attributes:
        status: "right", "wrong", "ill conditioned", "no textbook" (it raises, or is not finite).
        one_pass: whether method="one_pass" took it.
        refusal: why not.
        named: errors that are documented where the textbook has none.
        failures: at most one for each method.
    """

    status: str = "right"
    one_pass: bool = False
    refusal: str | None = None
    named: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    textbook: str = ""


def check(program: Program, text: str, only: str | None = None) -> Verdict:
    """Runs a program by every method; `only` limits it to one, for shrinking."""
    verdict = Verdict()
    code = compile(text, "<program>", "exec")
    truth = run(code, program, None)
    held_back = False
    if truth.error is not None and CHANGED_IN_PLACE.search(str(truth.error)) and "CHANGED" in text:
        verdict.textbook = "raises as something was changed in place"
        truth, held_back = run(code, program, None, changed=False), True
    if truth.error is not None or not truth.finite:
        verdict.status = "no textbook"
        verdict.textbook = (
            "not finite" if truth.error is None else f"{type(truth.error).__name__}: {normalised(str(truth.error))}"
        )
        return verdict
    if max(map(comparing.largest, truth.values), default=0.0) > DIVERGED:
        verdict.status, verdict.textbook = "no textbook", "training diverges"
        return verdict
    if not any(g is not None for g in truth.gradients.values()):
        verdict.status, verdict.textbook = "no textbook", "nothing has a gradient"
        return verdict
    if "checkpoint(" in text and TORCH_NORM.search(text):
        verdict.status, verdict.textbook = (
            "no textbook",
            "torch's spectral norm moves on when a checkpoint computes again",
        )
        return verdict
    if "CHANGED" in text and "checkpoint" in text:
        verdict.status, verdict.textbook = "no textbook", "a checkpoint computes again from what was changed"
        return verdict
    for method, compile_ in _methods(program):
        name = method if not compile_ else f"{method}, compiled"
        if only is not None and name != only and not (only == "auto" and name == "one_pass"):
            continue
        found = run(code, program, method, compile=compile_)
        if compile_:
            programs._PROGRAMS.clear()
            torch._dynamo.reset()
        failure = _judge(verdict, (program, text), name, found, truth, held_back)
        if (
            failure is not None
            and failure.kind in ("gradient", "value", "state")
            and _ill_conditioned(code, program, truth, held_back)
        ):
            verdict.status = "ill conditioned"
            continue
        if failure is not None and only in (None, name):
            verdict.failures.append(failure)
    if verdict.failures:
        verdict.status = "wrong"
    return verdict


def _methods(program: Program) -> list[tuple[str, Any]]:
    """one_pass first: what it says, auto is held to."""
    rng = random.Random(program.seed)
    methods: list[tuple[str, Any]] = [("one_pass", False), ("auto", False), ("directional", False)]
    if rng.random() < 0.2:
        methods.append(("double_backward", False))
    if program.compiled:
        methods.append((rng.choice(["auto", "one_pass"]), "eager"))
    return methods


def _judge(
    verdict: Verdict, subject: tuple[Program, str], name: str, found: Outcome, truth: Outcome, held_back: bool
) -> Failure | None:
    program, text = subject
    changed = bool(program.around.change) or held_back
    if found.error is not None:
        if NO_GRADIENT in str(found.error) and not any(_has(truth.gradients.get(n)) for n in found.trained):
            verdict.named.append("nothing that can be trained has a gradient")
            return None
        return _judge_error(verdict, subject, name, found, changed)
    if found.disturbed:
        return Failure(name, "explain", f"explain changes {', '.join(found.disturbed)}")
    if name == "one_pass":
        verdict.one_pass = True
    elif name == "auto" and verdict.one_pass and "double_backward" in found.methods:
        if COUNTS_CALLS.search(text):
            verdict.named.append("auto tried a path of the critic that the step does not take")
            return None
        return Failure(name, "declines", f"auto differentiates twice, one_pass does not: {'; '.join(found.reasons)}")
    # What is changed in place stays changed; the numbers are held against those of a run where it was not.
    states = {} if held_back else truth.state
    limit = comparing.LIMIT_OF_DIFFERENCES if name == "directional" else comparing.LIMIT
    none_for_zeros = name == "directional" or _none_for_zeros(program, text)
    different = comparing.difference(found, replace(truth, state=states), none_for_zeros, limit)
    if different is None:
        return None
    what, error = different
    kind = "None" if "None" in what else what.split()[0]
    return Failure(
        name, {"the": "value"}.get(kind, kind), f"{what}: relative error {error:.1e} by {sorted(set(found.methods))}"
    )


def _none_for_zeros(program: Program, text: str) -> bool:
    """Whether a parameter may have None where the textbook has zeros, as documented.

    Penalised samples are in no loss, or a function of slope zero may be a parameter's only way to the outputs; or a
    critic that counts its calls uses other parameters for points that are in no loss.
    """
    around = program.around
    apart = around.flow == "penalty alone" or around.loss == "lambda r, f: f.mean()"
    return apart or (SLOPE_ZERO.search(text) or COUNTS_CALLS.search(text)) is not None


def _has(gradient: torch.Tensor | None) -> bool:
    return gradient is not None and bool(gradient.any())


def _judge_error(
    verdict: Verdict, subject: tuple[Program, str], name: str, found: Outcome, changed: bool
) -> Failure | None:
    program, text = subject
    error = found.error
    message = f"{type(error).__name__} in {found.stage}: {error}"
    if name == "directional" and isinstance(error, NotSmoothError):
        return None
    if name.startswith("one_pass") and isinstance(error, NotAffineError):
        if name == "one_pass":
            verdict.refusal = normalised(str(error))
        return None
    if changed and CHANGED_IN_PLACE.search(str(error)):
        verdict.named.append("changed in place between critic_loss and backward")
        if name == "one_pass":
            verdict.one_pass = True
        return None
    gone = "generator_loss_from" in str(error) and "may mix the samples of a batch" in str(error)
    if gone and program.structure and "compiled" in name:
        verdict.named.append("generator_loss_from: compiled passes know the gradient of the outputs' sum only")
        return None
    if gone and not program.structure and "one_pass" not in name:
        verdict.named.append("generator_loss_from: a critic that is differentiated twice may mix the samples")
        return None
    if type(error).__name__ == "CheckpointError":
        verdict.named.append("torch.utils.checkpoint: a weight was frozen or freed before it computed again")
        return None
    if KEPT_BY_AN_OP.search(str(error)):
        verdict.named.append("an op of fastgan keeps its result, as relu does, and it was changed in place")
        return None
    if "compiled" in name and "view size is not compatible" in str(error) and "roll(" in text:
        verdict.named.append("torch.compile predicts other strides of roll, of a channels_last tensor")
        return None
    if "compiled" in name and type(error).__module__.startswith(("torch._dynamo", "torch.fx")):  # a graph break
        verdict.named.append(f"torch.compile: {type(error).__name__}")
        return None
    return Failure(name, "raises", message)


def _ill_conditioned(code: Any, program: Program, truth: Outcome, held_back: bool) -> bool:
    """Whether the textbook's own numbers depend on the last digits of data and weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for sign in (1e-9, -1e-9):
            moved = run(code, program, None, changed=not held_back, perturbation=sign)
            if comparing.change(moved, truth) > ILL:
                return True
    return False


def normalised(message: str) -> str:
    """A message without what differs from program to program."""
    message = message.split("\n")[0]
    message = re.sub(r"\(in [^)]*\)", "", message)
    message = re.sub(r"\[[^\]]*\]", "[..]", message)
    message = re.sub(r"\bm\d+\w*|\bt\d+[a-h]+|\bh\d+\w*", "_", message)
    message = re.sub(r"-?\d+(\.\d+)?(e-?\d+)?", "#", message)
    return message.strip()[:160]
