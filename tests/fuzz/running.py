"""Runs a program by the textbook or by fastgan, and records the outcome."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves

import fastgan
from fastgan import allocation
from tests.fuzz.namespace import namespace
from tests.fuzz.program import Program
from tests.fuzz.textbook import Textbook


@dataclass
class Outcome:
    """What a run left behind.

    Attributes:
        values: totals, losses, penalties, norms and outputs of each call, in order.
        gradients: of every parameter, and of what the loss depends on beside them; None where there is none.
        state: parameters and buffers after the run.
        methods: which method each call took.
        reasons: why, where it was double backward.
        disturbed: what `explain` changed.
        trained: what wants a gradient: parameters, and what the loss depends on beside them.
        error: what was raised; `stage`: "forward" if by a call of fastgan, "backward" after it.
    """

    values: list[Tensor] = field(default_factory=list)
    gradients: dict[str, Tensor | None] = field(default_factory=dict)
    state: dict[str, Tensor] = field(default_factory=dict)
    methods: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    disturbed: list[str] = field(default_factory=list)
    trained: list[str] = field(default_factory=list)
    error: Exception | None = None
    stage: str = "building"

    @property
    def finite(self) -> bool:
        tensors = [*self.values, *(g for g in self.gradients.values() if g is not None), *self.state.values()]
        return all(bool(t.isfinite().all()) for t in tensors if t.is_floating_point())


class Seen:
    """What a program calls `see`."""

    def __init__(self, outcome: Outcome, critic: nn.Module) -> None:
        self.outcome, self.critic = outcome, critic
        self.leaves: dict[str, Tensor] = {}

    def __call__(self, total: Tensor) -> None:
        parts = getattr(total, "seen", None)
        if parts is None:
            logits = [t for t in tree_leaves((total.real_logits, total.fake_logits)) if t is not None]
            lone = total.fake_logits is None
            values = [] if lone else [total.loss, *total.penalties.values()]
            parts = [*values, *total.gradient_norms.values(), *logits]
        self.outcome.values += [t.detach().clone() for t in (total, *parts)]

    def leaf(self, name: str, tensor: Tensor) -> None:
        self.leaves[name] = tensor

    def gradients(self, found: tuple[Tensor | None, ...]) -> None:
        wanted = [p for p in self.critic.parameters() if p.requires_grad]
        for p, g in zip(wanted, found, strict=True):
            p.grad = g


class Fastgan:
    """The functions under test, as a program calls them."""

    def __init__(self, outcome: Outcome, critic: nn.Module, method: str, compile: bool | str) -> None:
        self.outcome, self.critic = outcome, critic
        self.options = {"method": method, "compile": compile}

    def critic_loss(self, *args: Any, judged: Any = None, **kwargs: Any) -> Tensor:
        return self._noted(fastgan.critic_loss, *args, **kwargs)

    def gradient_penalty(self, *args: Any, judged: Any = None, **kwargs: Any) -> Tensor:
        return self._noted(fastgan.gradient_penalty, *args, **kwargs)

    def generator_loss_from(self, total: Tensor, loss: str) -> Tensor:
        return fastgan.generator_loss_from(total, loss)

    def explain(
        self, critic: Any, x: Tensor, labels: Any = None, judge: Any = None, reduce: str = "sum", judged: Any = None
    ) -> None:
        before = state_of(self.critic)
        random = torch.get_rng_state()
        with contextlib.redirect_stdout(io.StringIO()):
            fastgan.explain(critic, x, labels, judge=judge)
        after = state_of(self.critic)
        self.outcome.disturbed += [name for name in before if not _same(before[name], after.get(name))]
        if not torch.equal(random, torch.get_rng_state()):
            self.outcome.disturbed.append("the random state")

    def _noted(self, function: Any, *args: Any, **kwargs: Any) -> Tensor:
        self.outcome.stage = "forward"
        result = function(*args, **kwargs, **self.options)
        self.outcome.methods.append(result.method)
        if result.reason is not None:
            self.outcome.reasons.append(result.reason)
        self.outcome.stage = "backward"
        return result


def run(
    code: Any,
    program: Program,
    method: str | None,
    *,
    compile: bool | str = False,
    changed: bool = True,
    perturbation: float = 0.0,
) -> Outcome:
    """Runs the program's functions.

    Args:
        code: the compiled source.
        program: what it was written from.
        method: of critic_loss; None for the textbook.
        compile: as for critic_loss.
        changed: whether the program changes what it changes in place between the passes.
        perturbation: of data and parameters, relative.
    """
    outcome = Outcome()
    names = namespace(reference=method is None, changed=changed)
    names["descend"] = descend
    with _default_dtype(program.dtype), warnings.catch_warnings(), _poisoned():
        warnings.simplefilter("ignore")
        with _plain_pytorch() if method is None else contextlib.nullcontext():
            try:
                _use(code, names, program, method, compile, perturbation, outcome)
            except Exception as error:  # every kind is an outcome
                outcome.error = error
    return outcome


def _use(
    code: Any, names: dict, program: Program, method: str | None, compile: bool | str, noise: float, outcome: Outcome
) -> None:
    exec(code, names)
    torch.manual_seed(program.seed)
    with _default_dtype("float64"):  # the first power iterations are made when a spectral norm is
        critic = names["Critic"]()
    torch.manual_seed(program.seed + 1)
    data = list(names["data"]())
    if noise:
        with torch.no_grad():
            generator = torch.Generator().manual_seed(program.seed)
            for t in critic.parameters():
                t.mul_(1 + noise * torch.randn(t.shape, dtype=t.dtype, generator=generator))
            real_is_fake = data[0] is data[1]
            trained = data[0].requires_grad
            data[:2] = [t * (1 + noise * torch.randn(t.shape, dtype=t.dtype, generator=generator)) for t in data[:2]]
            data[1] = data[0] if real_is_fake else data[1]
            data[:2] = [t.requires_grad_(trained) for t in data[:2]]
    seen = Seen(outcome, critic)
    api = Textbook() if method is None else Fastgan(outcome, critic, method, compile)
    torch.manual_seed(program.seed + 2)
    try:
        names["use"](critic, api, *data, seen)
    finally:
        outcome.trained = [name for name, p in critic.named_parameters() if p.requires_grad]
        outcome.trained += [name for name in seen.leaves if name != "G"]
    outcome.gradients = {
        name: None if p.grad is None else p.grad.detach().clone() for name, p in critic.named_parameters()
    }
    for name, leaf in (*seen.leaves.items(), ("real", data[0]), ("fake", data[1])):
        outcome.gradients[name] = None if leaf.grad is None else leaf.grad.detach().clone()
    outcome.state = state_of(critic)
    outcome.stage = "done"


def state_of(critic: nn.Module) -> dict[str, Tensor]:
    """Copies of parameters and buffers."""
    return {name: t.detach().clone() for name, t in (*critic.named_parameters(), *critic.named_buffers())}


def descend(critic: nn.Module) -> None:
    """A small step of gradient descent."""
    with torch.no_grad():
        for p in critic.parameters():
            if p.grad is not None:
                p.sub_(p.grad, alpha=1e-3)
                p.grad = None


def _same(a: Tensor, b: Tensor | None) -> bool:
    return b is not None and torch.equal(a, b)


@contextlib.contextmanager
def _plain_pytorch() -> Iterator[None]:
    """Every operation composed of such as can be differentiated twice."""
    with fastgan.backend("reference"), sdpa_kernel(SDPBackend.MATH):
        yield


@contextlib.contextmanager
def _default_dtype(name: str) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, name))
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def _poisoned() -> Iterator[None]:
    """What fastgan's ops allocate is filled with NaN, so that an element that no kernel wrote shows."""

    def poison(allocate: Any) -> Any:
        def filled(*args: Any, **kwargs: Any) -> Tensor:
            t = allocate(*args, **kwargs)
            return t.fill_(float("nan") if t.is_floating_point() else 255)

        return filled

    before = allocation.empty_like, allocation.empty
    allocation.empty_like, allocation.empty = poison(before[0]), poison(before[1])
    try:
        yield
    finally:
        allocation.empty_like, allocation.empty = before
