"""compile=: critics that cannot be compiled run without the compiler, exactly, after one warning; threads."""

import copy
import threading
import warnings
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._dynamo import register_backend
from torch.utils._python_dispatch import TorchDispatchMode

import fastgan
from fastgan.penalties import R1, programs
from tests.penalties.compiling import check, loss, step, truth_of
from tests.penalties.critics import gradients, relative_error, textbook

pytestmark = pytest.mark.usefixtures("fresh_dynamo", "generator", "one_thread")


def small(width=4):
    return nn.Sequential(nn.Linear(3, width), nn.LeakyReLU(0.2), nn.Linear(width, 1)).double()


@pytest.fixture
def samples(generator):
    return torch.randn(2, 9, 3, generator=generator, dtype=torch.float64)


@pytest.fixture
def told():
    """What fastgan warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield lambda: [str(w.message) for w in caught if "fastgan" in str(w.message)]


# --- more than dynamo keeps -------------------------------------------------------------------------------------------


def test_more_shapes_than_are_compiled(samples, told, monkeypatch):
    real, fake = samples
    critic = small()
    runs = Counter()
    monkeypatch.setattr(programs.Program, "__call__", counted(programs.Program.__call__, runs, "tried"))
    with torch._dynamo.config.patch(recompile_limit=2):
        for n in (2, 3, 4, 5, 6, 2, 3, 4, 5):
            check(critic, real[:n], fake[:n])
        assert len(told()) == 1
        assert "more than 2 kinds" in told()[0]
        assert "drop_last=True" in told()[0]
        assert "recompile_limit" in told()[0]
        assert runs["tried"] == 2 * 4 + 1  # two kinds twice, the third once: later ones are not tried
    with torch._dynamo.config.patch(recompile_limit=4):  # as the warning says
        check(critic, real[:4], fake[:4])
        check(critic, real[:5], fake[:5])
    assert len(told()) == 1
    assert runs["tried"] == 2 * 6 + 1


def counted(function, runs, name):
    def run(*args, **kwargs):
        runs[name] += 1
        return function(*args, **kwargs)

    return run


@pytest.mark.filterwarnings("error:fastgan")
def test_many_critics_of_a_class(samples):
    with torch._dynamo.config.patch(recompile_limit=2):
        for width in range(3, 7):
            check(small(width), *samples)


@pytest.mark.filterwarnings("error:fastgan")
def test_critics_that_are_not_kept_are_compiled_again(samples, monkeypatch):
    monkeypatch.setattr(programs, "KEPT", 1)
    critics = small(), small()
    for _ in range(2):
        for critic in critics:
            check(critic, *samples)


# --- what the compiler does not take ----------------------------------------------------------------------------------


class Of(nn.Module):
    """A critic whose forward does something else as well."""

    def __init__(self, more):
        super().__init__()
        self.stem, self.head, self.more = nn.Linear(3, 4), nn.Linear(4, 1), more

    def forward(self, x):
        return self.head(F.leaky_relu(self.more(self.stem(x)), 0.2))


@torch.compiler.disable
def left_alone(h):
    return 2 * h


def number_of_a_tensor(h):
    return h * (1 + h.detach().abs().mean().item())


def branch_on_data(h):
    return 2 * h if h.detach().mean() > 0 else 3 * h


def breaks(h):
    torch._dynamo.graph_break()
    return 2 * h


@pytest.mark.parametrize("more", [left_alone, number_of_a_tensor, branch_on_data, breaks])
def test_code_that_cannot_be_compiled(samples, told, more):
    critic = Of(more).double()
    for _ in range(2):
        check(critic, *samples)
        check(critic, *samples, penalties=(R1(2.0),), expected={"r1": 2.0})  # fake without a penalty
    assert len(told()) == 1
    assert "exactly but slower" in told()[0]


def test_the_warning_names_the_line_that_called(samples):
    with pytest.warns(UserWarning, match="without the compiler") as caught:
        step(Of(breaks).double(), *samples)
    assert caught[0].filename == __file__.replace("test_compile_failures", "compiling")


def test_critics_that_are_not_affine_are_refused_or_differentiated_twice(samples, told):
    critic = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    with pytest.raises(fastgan.NotAffineError, match="tanh"):
        step(critic, *samples)
    found = step(critic, *samples, method="auto")
    assert found.method == "double_backward"
    assert "tanh" in found.reason
    assert relative_error(gradients(critic, found), truth_of(critic, *samples)) <= 1e-10
    assert told() == []


def test_outputs_of_another_kind_are_refused_by_name(samples):
    class Two(nn.Module):
        def __init__(self, form):
            super().__init__()
            self.stem, self.form = nn.Linear(3, 2), form

        def forward(self, x):
            return self.form(self.stem(x))

    with pytest.raises(fastgan.NotAffineError, match="depend"):
        step(Two(lambda y: torch.ones(9, 1)).double(), *samples)
    for form, reason in ((lambda y: {"map": y}, "{'map': "), (lambda y: None, "None")):
        with pytest.raises(TypeError, match=f"it returned {reason}"):
            step(Two(form).double(), *samples)


@pytest.mark.parametrize(("compile", "error"), [("nonsense", ValueError), (3.0, TypeError)])
def test_compile_is_none_of_these(samples, compile, error):
    with pytest.raises(error, match=f"compile is .*(?:{compile}|float).* expected"):
        step(small(), *samples, compile=compile)


# --- backends that fail -----------------------------------------------------------------------------------------------


class Backend:
    """Raises at the call whose turn it is."""

    def __init__(self):
        self.calls, self.fails, self.error = 0, (), RuntimeError("no such instruction")

    def __call__(self, network, examples):
        self.calls += 1
        if self.calls in self.fails:
            raise self.error
        return network.forward


failing = Backend()
register_backend(lambda network, examples: failing(network, examples), name="fastgan_test_failing")


@pytest.fixture(autouse=True)
def fresh_backend():
    failing.__init__()


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_backend_fails(samples, told, call):
    """At F and X, at T and W in the backward pass, or at fakes without a penalty."""
    critic = small()
    failing.fails = (call,)
    for _ in range(2):
        check(critic, *samples, penalties=(R1(2.0),), expected={"r1": 2.0}, compile="fastgan_test_failing")
    assert len(told()) == 1
    assert "no such instruction" in told()[0]


@pytest.mark.parametrize("call", [1, 2, 3])
@pytest.mark.filterwarnings("error:fastgan")
def test_an_interruption_while_compiling(samples, call):
    """Nothing of it is left: the next step is compiled and right."""
    critic = small()
    failing.fails, failing.error = (call,), KeyboardInterrupt()
    other = copy.deepcopy(critic)
    with pytest.raises(KeyboardInterrupt):
        step(critic, *samples, penalties=(R1(2.0),), compile="fastgan_test_failing").backward()
    assert programs.COMPILING.acquire(blocking=False)
    programs.COMPILING.release()
    critic.load_state_dict(other.state_dict())
    check(critic, *samples, penalties=(R1(2.0),), expected={"r1": 2.0}, compile="fastgan_test_failing")
    assert failing.calls == call + {1: 3, 2: 2, 3: 1}[call]


class Raises(nn.Module):
    """Raises, when it is told to."""

    def __init__(self):
        super().__init__()
        self.stem, self.head, self.error = nn.Linear(3, 4), nn.Linear(4, 1), None
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls.add_(1)
        if self.error is not None:
            raise self.error
        return self.head(F.leaky_relu(self.stem(x), 0.2))


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.filterwarnings("error:fastgan")
def test_the_critic_raises(samples, before):
    """The critic's own error comes out, and the step after it is compiled."""
    critic = Raises().double()
    if before:
        check(critic, *samples)
    critic.error = KeyError("no such layer")
    calls = critic.calls.item()
    with pytest.raises(KeyError, match="no such layer"):
        step(critic, *samples)
    assert critic.calls == calls + 1
    critic.error = None
    check(critic, *samples)


class Embeds(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.embed = nn.Linear(3, 4), nn.Embedding(3, 4)

    def forward(self, x, y):
        return (self.embed(y) * F.relu(self.stem(x))).sum(1)


@pytest.mark.filterwarnings("error:fastgan")
def test_an_operation_fails_while_it_runs(samples):
    critic, labels = Embeds().double(), torch.arange(9) % 3
    check(critic, *samples, labels)
    with pytest.raises(IndexError):
        step(critic, *samples, labels + 1)
    check(critic, *samples, labels)


# --- where nothing is compiled ----------------------------------------------------------------------------------------


class Watching(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("where", ["disabled", "force_eager", "dispatch mode", "suppressed errors"])
def test_torch_compile_is_off(samples, told, where):
    """The critic has not run when that is found out: its buffers move once a call."""
    critic = Raises().double()
    around = {
        "disabled": lambda: torch._dynamo.config.patch(disable=True),
        "force_eager": lambda: torch.compiler.set_stance("force_eager"),
        "dispatch mode": Watching,
        "suppressed errors": lambda: torch._dynamo.config.patch(suppress_errors=True),
    }[where]
    with around():
        check(critic, *samples)
        assert critic.calls == 2
    check(critic, *samples)
    assert len(told()) == (where != "suppressed errors")


# --- threads ----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error:fastgan")
def test_threads(seed):
    """Some with critics of their own, some with one together; not a step without its graph, nor with another's."""
    together = small()
    failures = []

    def work(i):
        try:
            generator = torch.Generator().manual_seed(seed + i)
            critic = together if i % 2 else small()
            weights = list(critic.parameters())
            for k in range(12):
                real, fake = torch.randn(2, 2 + (i + k) % 2, 3, generator=generator, dtype=torch.float64)
                truth = torch.autograd.grad(textbook(critic, real, fake, None, loss, 2.0, 5.0), weights)
                found = step(critic, real, fake, method="auto" if i < 2 else "one_pass")
                torch.testing.assert_close(torch.autograd.grad(found, weights), truth, rtol=1e-9, atol=1e-12)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


class InPlaceOnFrozen(nn.Module):
    """While the tape is traced, C++ asks for the device of an activation that is being changed in place."""

    def __init__(self):
        super().__init__()
        self.stem, self.scale, self.head = nn.Linear(1, 1), nn.Parameter(torch.rand(4, 1) + 0.5), nn.Linear(4, 1)
        self.stem.weight.requires_grad_(False)

    def forward(self, x):
        h = self.stem(x)
        h *= self.scale
        return self.head(h.flatten(1))


@pytest.mark.filterwarnings("ignore:fastgan.critic_loss runs without the compiler")
def test_a_refusal_in_the_middle_of_an_operation_in_place_does_not_end_the_process(generator):
    check(InPlaceOnFrozen().double(), *torch.randn(2, 5, 4, 1, generator=generator, dtype=torch.float64))
