"""Shared memory in the passes: the declarations of every rule, and critics whose views are read late."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fastgan
from fastgan.affine import NotAffineError
from fastgan.affine.memory import Memory
from fastgan.affine.rules import RULES
from fastgan.affine.tape import Node, Scales
from fastgan.penalties import R1, R2, WGANGP
from tests.affine.one_output import record
from tests.affine.test_rules import CALLS, COMPOSITE, OTHER_DEVICES, REFUSED, VECTORS, WHOLE, WIDE, Around
from tests.penalties.critics import CRITICS, batch, build, gradients, relative_error, textbook

pytestmark = pytest.mark.usefixtures("one_thread")


# --- the account of blocks --------------------------------------------------------------------------------------------


def test_a_block_is_overwritten_by_its_only_tensor():
    memory, x = Memory(True), torch.zeros(4, 6)
    memory.hold(x, new=True)
    assert memory.may_overwrite(x)
    view = x[:, ::2]
    memory.hold(view, new=True)  # whatever it says, its block is held already
    assert not memory.may_overwrite(x)
    memory.release(view)
    assert memory.may_overwrite(x)
    memory.hold(x)
    assert not memory.may_overwrite(x)


def test_what_was_given_and_what_repeats_its_elements_is_not_overwritten():
    given = torch.zeros(4, 6)
    memory, row = Memory(True, given), torch.zeros(1, 6)
    assert not memory.may_overwrite(given)
    memory.hold(given.view(6, 4), new=True)
    memory.release(given)
    assert not memory.may_overwrite(given)
    memory.hold(row.expand(4, 6), new=True)
    assert not memory.may_overwrite(row.expand(4, 6))


# --- every rule -------------------------------------------------------------------------------------------------------


def tensors_in(thing: Any, depth: int = 3) -> Iterator[Tensor]:
    """The tensors that an object holds."""
    if isinstance(thing, Tensor):
        yield thing
    elif depth and isinstance(thing, (list, tuple)):
        for part in thing:
            yield from tensors_in(part, depth - 1)
    elif depth and hasattr(thing, "__dict__") and not isinstance(thing, type) and not callable(thing):
        for part in vars(thing).values():
            yield from tensors_in(part, depth - 1)


REACHED = sorted({str(op) for op in RULES} - OTHER_DEVICES - REFUSED - COMPOSITE - WHOLE - VECTORS)


def block(x: Tensor) -> int:
    return x.untyped_storage()._cdata


def check_declaration(
    run: Callable[[Any], Any], over: Callable[[Any], Any], new: bool, node: Node, given: Tensor | list[Tensor]
) -> None:
    inputs = [given] if isinstance(given, Tensor) else given
    copies = [x.clone() for x in inputs]
    results = as_list(run(given))
    for x, copy in zip(inputs, copies, strict=True):
        assert torch.equal(x, copy), f"{type(node).__name__} has changed what it was given"
    if new:
        blocks = [block(x) for x in results]
        others = {block(x) for x in (*inputs, *tensors_in(node))}
        assert len(set(blocks)) == len(blocks), f"{type(node).__name__}: results share memory"
        assert not others & set(blocks), f"{type(node).__name__}: the memory of a result is not new"
    if len(inputs) == 1:
        expected = [x.clone() for x in results]
        for x, y in zip(as_list(over(copies[0] if isinstance(given, Tensor) else copies)), expected, strict=True):
            torch.testing.assert_close(x, y)


def as_list(found: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [found] if isinstance(found, Tensor) else list(found)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(
    "name", sorted({str(op) for op in RULES} - OTHER_DEVICES - REFUSED - COMPOSITE - WHOLE - VECTORS)
)
def test_every_rule_tells_the_truth_about_memory(name, plain, generator):
    """A pass changes nothing that it was given, new memory is in nothing else, and in place it computes the same."""
    try:
        _, tape = record(Around(CALLS[name]).double(), torch.randn(WIDE).double(), plain=plain)
    except NotAffineError:
        assert plain, name
        return
    for s in (None, torch.randn(WIDE[0]).double()):
        scales = Scales(s)
        for node in tape.nodes:
            delta = torch.randn(node.output.shape).to(node.output.dtype)
            us = [torch.randn(value.shape).to(value.dtype) for value in node.inputs]
            with torch.no_grad():
                pull, pull_over = (partial(f, scales=scales) for f in (node.pull, node.pull_over))
                check_declaration(pull, pull_over, node.pulls_new, node, delta)
                push, push_over = (partial(f, scales=scales) for f in (node.push, node.push_over))
                check_declaration(push, push_over, node.pushes_new, node, us)


def test_passes_overwrite_what_nobody_else_reads(monkeypatch):
    """The other side of the account: an activation after a convolution costs no memory of its own."""
    from fastgan.affine.rules.activation import FusedActivation

    calls = []
    for name in ("pull_over", "push_over"):
        method = getattr(FusedActivation, name)
        monkeypatch.setattr(
            FusedActivation, name, lambda *args, name=name, method=method: calls.append(name) or method(*args)
        )
    critic = build(CRITICS["resnet"])
    real, fake, _ = batch(CRITICS["resnet"])
    fastgan.critic_loss(critic, real, fake, penalties=(R1(1.0),), method="one_pass").backward()
    assert calls.count("push_over") >= 3
    assert calls.count("pull_over") >= 3


# --- critics that read a view after what it is a view of has gone through an activation -------------------------------


class Views(nn.Module):
    """A layer, an expression of it, and further layers of every width."""

    def __init__(self, call: Callable[["Views", Tensor], Tensor]) -> None:
        super().__init__()
        self.call = call
        self.stem, self.mix = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.linear, self.p = nn.Linear(48, 8), nn.Parameter(torch.randn(1))
        self.heads = nn.ModuleDict({str(n): nn.Linear(n, 1) for n in (2, 4, 8, 64)})

    def head(self, h: Tensor) -> Tensor:
        return self.heads[str(h.shape[1])](h)

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self, x)


def act(h: Tensor) -> Tensor:
    return F.leaky_relu(h, 0.2)


def features(call: Callable[[Views, Tensor], Tensor]) -> Callable[[Views, Tensor], Tensor]:
    return lambda s, x: call(s, s.linear(x.flatten(1)))


def maps(call: Callable[[Views, Tensor], Tensor]) -> Callable[[Views, Tensor], Tensor]:
    return lambda s, x: call(s, act(s.stem(x)))


VIEWS: dict[str, Callable[[Views, Tensor], Tensor]] = {
    "a view made before": features(lambda s, h: _late(s, h[:, ::2], h)),
    "pre-activation shortcut": maps(lambda s, h: _late(s, h[:, :, ::2, ::2].mean((2, 3)), s.mix(act(h)).mean((2, 3)))),
    "strided shortcut": maps(lambda s, h: (s.mix(act(h))[:, :, ::2, ::2] + h[:, :, ::2, ::2]).mean((1, 2, 3))),
    "flattened skip": maps(lambda s, h: _late(s, s.mix(h).flatten(1)[:, :8], s.mix(h).flatten(1))),
    "chunks beside relu": features(lambda s, h: _chunks(s, *h.chunk(2, 1), h)),
    "everything": features(lambda s, h: s.head(act(h[:])) + s.head(h)),
    "h + p": features(lambda s, h: s.head(act(h + s.p)) + s.head(h)),
    "h - 1": features(lambda s, h: s.head(act(h - 1)) + s.head(h)),
    "twice": features(lambda s, h: s.head(2 * h) + s.head(h[:, 1::2])),
    "transposed": features(lambda s, h: s.head(act(h)) + s.head((h.t() * 0.5).t())),
    "expanded": features(lambda s, h: s.head(h[:, :1].expand(-1, 8) * 0.5) + s.head(act(h))),
    "a sum of itself": features(
        lambda s, h: s.head(act(h + h)) + s.head((h.view(-1, 2, 4) + h.view(-1, 2, 4)).flatten(1))
    ),
    "unbound": features(lambda s, h: s.head(torch.stack(h.unbind(1)[:4], 1) * 3) + s.head(act(h))),
    "viewed as": features(lambda s, h: s.head(act(h.view_as(h))) + s.head(h.view(-1, 2, 4)[:, 1])),
}


def _late(s: Views, view: Tensor, h: Tensor) -> Tensor:
    return s.head(act(h)[:, :8]) + s.head(view)


def _chunks(s: Views, a: Tensor, b: Tensor, h: Tensor) -> Tensor:
    return s.head(F.relu(a)) + s.head(b) + s.head(F.relu(h))


@pytest.mark.parametrize("penalty", ["r1 and r2", "wgan-gp"])
@pytest.mark.parametrize("kind", VIEWS)
def test_a_view_is_read_after_what_it_is_a_view_of(kind, penalty, generator):
    critic = Views(VIEWS[kind]).double()
    real, fake = torch.randn(2, 5, 3, 4, 4, generator=generator).double()
    weights = {"r1": 2.0, "r2": 1.0} if penalty == "r1 and r2" else {"wgan_gp": 3.0}
    penalties = (R1(2.0), R2(1.0)) if penalty == "r1 and r2" else (WGANGP(3.0),)
    seed = torch.randint(2**31, (), generator=generator).item()

    def loss(r: Tensor, f: Tensor) -> Tensor:
        return F.softplus(-r).mean() + F.softplus(f).mean()

    torch.manual_seed(seed)
    truth = gradients(critic, textbook(critic, real, fake, None, loss, **weights))
    torch.manual_seed(seed)
    total = fastgan.critic_loss(critic, real, fake, loss=loss, penalties=penalties, method="one_pass")
    assert relative_error(gradients(critic, total), truth) <= 1e-10


# --- biases that move -------------------------------------------------------------------------------------------------


class Biased(nn.Module):
    """A constant that is added before an operation which could add it as well, if it were one for each channel."""

    def __init__(self, call: Callable[["Biased", Tensor], Tensor], trainable: bool) -> None:
        super().__init__()
        self.call = call
        self.weight, self.head = nn.Parameter(torch.randn(6, 4)), nn.Linear(4, 1)
        self.one, self.four, self.samples = (nn.Parameter(torch.randn(n), requires_grad=trainable) for n in (1, 4, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self, x)


def _pooled(s: Biased, x: Tensor) -> Tensor:
    h = (x @ s.weight).view(5, 1, 2, 2).transpose(0, 1) + s.samples.view(1, 5, 1, 1)
    return F.relu(F.avg_pool2d(h, 2)).flatten()


BIASED: dict[str, Callable[[Biased, Tensor], Tensor]] = {
    "one for all features": lambda s, x: s.head(F.relu(torch.addmm(s.one, x, s.weight))),
    "one for each feature": lambda s, x: s.head(F.relu(torch.addmm(s.four, x, s.weight))),
    "one for each sample": lambda s, x: s.head(F.relu(torch.addmm(s.samples[:, None], x, s.weight))),
    "samples where channels are": _pooled,
    "of another dtype": lambda s, x: s.head(F.relu(x @ s.weight + s.four.detach().float())),
    "integers": lambda s, x: s.head(F.relu(x @ s.weight + torch.arange(4))),
    "a number": lambda s, x: s.head(F.relu((x @ s.weight).view(5, 1, 4) + s.one).flatten(1)),
}


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("kind", BIASED)
def test_a_bias_moves_only_where_it_fits(kind, trainable, generator):
    critic = Biased(BIASED[kind], trainable).double()
    real, fake = torch.randn(2, 5, 6, generator=generator).double()

    def loss(r: Tensor, f: Tensor) -> Tensor:
        return F.softplus(-r).mean() + F.softplus(f).mean()

    truth = gradients(critic, textbook(critic, real, fake, None, loss, r1=2.0, r2=1.0))
    total = fastgan.critic_loss(critic, real, fake, loss=loss, penalties=(R1(2.0), R2(1.0)), method="one_pass")
    assert relative_error(gradients(critic, total), truth) <= 1e-10
