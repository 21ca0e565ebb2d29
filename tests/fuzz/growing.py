"""Grows a critic from genes: each operation is written down, run once on a batch, and kept if that worked."""

import functools
import itertools
import random
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from tests.fuzz.namespace import namespace
from tests.fuzz.operations import HEADS, OPERATIONS, Live, Operation, Out
from tests.fuzz.program import Gene, Program

LARGEST = 300
"""Elements of one sample's tensor: small networks, many of them."""


class DoesNotFitError(Exception):
    """A gene cannot be written in its place."""


@functools.lru_cache(4096)
def _compiled(code: str) -> Any:
    return compile(code, "<critic>", "exec")


class Growth:
    """A critic as far as it has been written. Operations ask it for everything that they do not choose alone."""

    def __init__(self, program: Program, chooser: random.Random | None = None) -> None:
        """`chooser` picks what genes refer to; None where they know."""
        self.program, self.chooser = program, chooser
        self.members: list[str] = []
        self.lines: list[str] = []
        self.returned: list[str] = []
        self.eligible = True
        self.noisy = False
        self.terms: list[str] = []
        """Attributes with a term that the loss may add: of weights alone."""
        self.features: list[str] = []
        """The same of activations: of the last batch."""
        self.critic = nn.Module()
        self.names = namespace(reference=False)
        torch.manual_seed(program.seed)
        b = program.samples
        self.names |= {
            "self": self.critic,
            "x": torch.randn(b, *program.shape).requires_grad_(),
            "y": torch.arange(b) % 4,
            "c": torch.randn(b, 3),
        }
        self.lives: dict[str, Live] = {"x": Live("x", (b, *program.shape))}
        self.uses: dict[str, int] = {"x": 0}
        self.shared: dict[str, str] = {}  # what made a part -> its name

    # --- what operations ask ----------------------------------------------------------------------------------------

    def pick(self, *options: Any) -> Any:
        return self.rng.choice(options)

    def chance(self, p: float) -> bool:
        return self.rng.random() < p

    def whole(self, low: int, high: int) -> int:
        return self.rng.randint(low, high)

    def number(self) -> float:
        """A factor or a summand."""
        return self.pick(0.5, 2, 1.5, -1, 0.1, 3, -0.3)

    def labelled(self) -> bool:
        return self.program.labels != "none"

    def module(self, code: str) -> str:
        """A part of the critic; now and then one that it has already."""
        return self._part(code, code)

    def parameter(self, *shape: int, near_one: bool = False, trained: bool | None = None) -> str:
        """A parameter; sometimes frozen, sometimes another layer's."""
        made = f"torch.rand({_tuple(shape)}) + 0.5" if near_one else f"0.5 * torch.randn({_tuple(shape)})"
        if trained is None:
            trained = self.chance(0.8)
        code = f"nn.Parameter({made})" if trained else f"nn.Parameter({made}, requires_grad=False)"
        if trained and self.chance(0.2):
            ref = self._ref(lambda: [f"self.{n}" for n, p in self.critic.named_parameters() if p.shape == shape])
            if ref is not None:
                return ref
        return self._part(code, f"{code} {trained}")

    def buffer(self, code: str) -> str:
        name = self._name()
        self._declare(f'self.register_buffer("{name}", {code})')
        return f"self.{name}"

    def attribute(self, code: str) -> str:
        """Something that the critic has on itself."""
        name = self._name()
        self._declare(f"self.{name} = {code}")
        return f"self.{name}"

    def declare(self, statement: str) -> None:
        """A statement at the end of __init__ so far."""
        self._declare(statement)

    def name(self) -> str:
        """A fresh local variable."""
        return f"t{self.gene.id}{next(self._letters)}"

    def other(self, fits: Callable[[Live], bool]) -> Live | None:
        """Another tensor, or the same again."""
        name = self._ref(lambda: [name for name, live in self.lives.items() if fits(live)])
        return None if name is None else self.lives[name]

    def like(self, h: Live) -> Live | None:
        """A tensor with the shape of h, its samples in the same place; h itself if there is no other."""
        found = self.other(lambda o: o.shape == h.shape and (o.dim, o.folded) == (h.dim, h.folded) and o.name != h.name)
        return h if found is None else found

    def trained(self) -> bool:
        """Whether what is returned depends on anything that can be trained."""
        parameters = [p for p in self.critic.parameters() if p.requires_grad]
        total = sum(self.names[name].sum() for name in self.returned)
        try:
            found = torch.autograd.grad(total, parameters, allow_unused=True) if parameters else ()
        except (RuntimeError, TypeError, AttributeError):  # what was changed in place, or a hook that nobody asked
            return True
        return any(g is not None for g in found)

    # --- writing ----------------------------------------------------------------------------------------------------

    def add(self, gene: Gene, kinds: dict[str, Operation] = OPERATIONS) -> Gene:
        """Writes a gene; returns it with what it refers to.

        Raises:
            DoesNotFitError: it cannot be here; nothing has changed.
        """
        kind = kinds[gene.operation]
        self.gene, self.rng = gene, random.Random(gene.seed)
        self._letters = map("".join, itertools.product("abcdefgh"))
        self._refs, self._known = [], list(gene.refs)
        before = list(self.members), dict(self.shared)
        try:
            h = self.other(kind.fits) if gene.refs else self._input(kind, 10 if kinds is HEADS else 2.5)
            if h is None:
                raise DoesNotFitError
            out = kind.write(self, h)
            if out is None:
                raise DoesNotFitError
            out = Out(out) if isinstance(out, str) else out
            self._run(h, out, head=kinds is HEADS)
            self._leave_out_what_is_not_mentioned(len(before[0]), out)
        except DoesNotFitError:
            self._forget(*before)
            raise
        self.eligible = self.eligible and kind.eligible
        for ref in self._refs:
            if ref in self.uses:
                self.uses[ref] += 1
        return replace(gene, refs=tuple(self._refs))

    def _input(self, kind: Operation, unused: float) -> Live | None:
        """Recent tensors are taken more often, and unused ones so many times as often."""
        fitting = [live for live in self.lives.values() if kind.fits(live) and not live.constant]
        if not fitting or self.chooser is None:
            return None
        weights = [
            (1 + 3 * (i >= len(fitting) - 2) + (live.name != "x")) * (unused if not self.uses[live.name] else 1)
            for i, live in enumerate(fitting)
        ]
        chosen = self.chooser.choices(fitting, weights)[0]
        self._refs.append(chosen.name)
        return chosen

    def _run(self, h: Live, out: Out, head: bool) -> None:
        targets = [f"h{self.gene.id}"] if out.names == 1 else [f"h{self.gene.id}_{i}" for i in range(out.names)]
        statement = f"{', '.join(targets)} = {out.code}"
        text = "\n".join([*out.before, statement])
        try:
            exec(_compiled(text), self.names)
        except Exception as error:  # whatever it is, the operation does not fit these shapes
            raise DoesNotFitError(str(error)) from None
        dim = h.dim if out.dim is None else out.dim
        folded = h.folded if out.folded is None else out.folded
        for target in targets:
            self._check(self.names[target], dim, folded, head)
        for target in targets:
            tensor = self.names[target]
            self.lives[target] = Live(target, tuple(tensor.shape), dim, folded, not tensor.requires_grad)
            self.uses[target] = 0
        self.lines += text.splitlines()
        self.noisy = self.noisy or "rand" in text or "dropout" in text.lower()
        if head:
            self.returned += targets

    def _check(self, tensor: Any, dim: int, folded: int, head: bool) -> None:
        samples = self.program.samples
        if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point() or tensor.ndim == 0:
            raise DoesNotFitError
        if tensor.ndim <= dim or tensor.shape[dim] != samples * folded or tensor.ndim > 5:
            raise DoesNotFitError
        if not 0 < tensor.numel() <= LARGEST * samples:
            raise DoesNotFitError
        if head and (tuple(tensor.shape) != (samples, 1) or not tensor.requires_grad):
            raise DoesNotFitError
        largest = tensor.detach().abs().max().item()
        if not largest < 100:
            raise DoesNotFitError

    # --- parts ------------------------------------------------------------------------------------------------------

    def _name(self) -> str:
        return f"m{self.gene.id}{next(self._letters)}"

    def _part(self, code: str, key: str) -> str:
        if key in self.shared and self.rng.random() < 0.3:
            ref = self._ref(lambda: [self.shared[key]])
            if ref is not None:
                return ref
        name = self._name()
        self._declare(f"self.{name} = {code}")
        self.shared[key] = f"self.{name}"
        return f"self.{name}"

    def _declare(self, statement: str) -> None:
        try:
            exec(_compiled(statement), self.names)
        except Exception as error:
            raise DoesNotFitError(str(error)) from None
        self.members.append(statement)

    def _ref(self, candidates: Callable[[], Sequence[str]]) -> str | None:
        """One of the candidates; "" is remembered where there was none, and read where it is no longer one."""
        found = candidates()
        if self._known:
            known = self._known.pop(0)
            known = known if known in found else ""
        else:
            known = self.chooser.choice(found) if found and self.chooser is not None else ""
        self._refs.append(known)
        return known or None

    def _leave_out_what_is_not_mentioned(self, first: int, out: Out) -> None:
        """Options that were not picked have left parts behind."""
        text = "\n".join([*out.before, out.code])
        kept = [s for s in self.members[first:] if not (m := _DECLARED.match(s)) or re.search(rf"\b{m[1]}\b", text)]
        for statement in set(self.members[first:]) - set(kept):
            self._remove(_DECLARED.match(statement)[1])  # type: ignore[index]
        self.members[first:] = kept

    def _forget(self, members: list[str], shared: dict[str, str]) -> None:
        first = len(members)
        for statement in self.members[first:]:
            if match := _DECLARED.match(statement):
                self._remove(match[1])
        self.members, self.shared = members, shared

    def _remove(self, name: str) -> None:
        for owner in (self.critic._modules, self.critic._parameters, self.critic._buffers, self.critic.__dict__):
            owner.pop(name, None)
        self.shared = {key: found for key, found in self.shared.items() if found != f"self.{name}"}


_DECLARED = re.compile(r'self\.(?:register_buffer\(")?(m\d+\w*)(?: = |")')
"""What a statement of __init__ declares."""


def develop(program: Program) -> Growth:
    """Writes all genes of a program.

    Raises:
        DoesNotFitError: one of them cannot be in its place.
    """
    with writing():
        growth = Growth(program)
        for gene in program.genes:
            growth.add(gene)
        for gene in program.heads:
            growth.add(gene, HEADS)
    return growth


@contextmanager
def writing() -> Iterator[None]:
    """While a critic is written its numbers are float64, and deprecated layers are no news."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_default_dtype(before)


def _tuple(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
