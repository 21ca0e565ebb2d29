"""compile=: whatever a compiled step depends on, changed between two steps or between its passes.

After a change between steps the next one is as if nothing had been compiled. After one between the passes, backward
raises as it does without a compiler, or gives the gradient at the values that the forward pass read.
"""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules import module as modules
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

import fastgan
from fastgan.penalties import R1
from tests.penalties.compiling import check, step, truth_of
from tests.penalties.critics import gradients, relative_error

pytestmark = [
    pytest.mark.usefixtures("fresh_dynamo", "generator", "one_thread"),
    pytest.mark.filterwarnings("error:fastgan"),
]


@pytest.fixture
def samples(generator):
    return torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)


# --- between two steps ------------------------------------------------------------------------------------------------

SLOPE = 0.2


def scaled(h, factor=0.3):
    return h * factor


class Settings:
    def __init__(self):
        self.factor = 2.0


class Inner(nn.Module):
    factor = 3.0

    def forward(self, h):
        return self.times(h) * self.factor * self.twice(1.0) * self.thrice(1.0)

    def times(self, h):
        return h * 2

    @staticmethod
    def twice(x):
        return 2 * x

    @classmethod
    def thrice(cls, x):
        return 3 * x


class Watchful(nn.Module):
    """Its code depends on everything that code can depend on."""

    def __init__(self):
        super().__init__()
        self.stem, self.inner, self.act, self.head = nn.Linear(3, 4), Inner(), nn.LeakyReLU(0.2), nn.Linear(4, 1)
        self.register_buffer("buffer", torch.rand(4) + 0.5)
        self.tensor, self.array = torch.rand(4).double(), torch.rand(4).double().numpy()
        self.tensors = [torch.rand(4).double()]
        self.number, self.numbers, self.table, self.settings = 1.5, [0.5, 0.6], {"a": 0.4}, Settings()
        self.function = scaled

    def forward(self, x):
        h = self.inner(self.act(self.stem(x)))
        h = h * self.number * self.numbers[0] * self.table["a"] * self.settings.factor
        h = h * self.buffer * self.tensor * torch.from_numpy(self.array) * self.tensors[0]
        h = h * 2 if self.training else h
        return self.head(self.function(F.leaky_relu(h - 0.1, SLOPE)))


class Twice(nn.Module):
    def forward(self, w):
        return 2 * w


def set_numbers(c):
    c.number, c.numbers[0], c.table["a"], c.settings.factor = 2.0, 1.5, 0.7, 0.9


def set_global(c):
    global SLOPE
    SLOPE = 0.7


def set_tensors(c):
    c.buffer, c.tensors[0] = torch.rand(4).double(), torch.rand(4).double()
    c.tensor.mul_(1.5)
    c.array *= 1.5


def replace_modules(c):
    c.act, c.head = nn.LeakyReLU(0.7), nn.Linear(4, 1).double()


def replace_parameter(c):
    c.stem.weight = nn.Parameter(torch.randn(4, 3).double())
    c.head.weight.data = torch.randn(1, 4).double()


def tie(c):
    c.tensor = c.buffer


def train_buffer(c):
    c.buffer.requires_grad_()


def tie_to_a_weight(c):
    del c.buffer
    c.buffer = c.stem.bias


CHANGES = {
    "numbers": set_numbers,
    "a global": set_global,
    "tensors": set_tensors,
    "tied": tie,
    "a buffer that is trained": train_buffer,
    "tied to a weight": tie_to_a_weight,
    "modules": replace_modules,
    "parameters": replace_parameter,
    "frozen": lambda c: c.stem.bias.requires_grad_(False),
    "evaluating": lambda c: c.eval(),
    "a class's method": lambda c: setattr(Inner, "times", lambda self, h: 4 * h),
    "a static method": lambda c: setattr(Inner, "twice", staticmethod(lambda x: 2.5 * x)),
    "a class method": lambda c: setattr(Inner, "thrice", classmethod(lambda cls, x: 2.5 * x)),
    "a method's code": lambda c: setattr(Inner.times, "__code__", (lambda self, h: 5 * h).__code__),
    "torch's method": lambda c: setattr(nn.LeakyReLU, "forward", lambda self, h: 2 * h),
    "a parametrization": lambda c: parametrize.register_parametrization(c.stem, "weight", Twice()),
}


def test_the_next_step_sees_every_change(samples, monkeypatch):
    """One after another, each on top of those before, on a critic that stays compiled."""
    monkeypatch.setattr(nn.LeakyReLU, "forward", nn.LeakyReLU.forward)  # all are put back afterwards
    for name in ("times", "twice", "thrice"):
        monkeypatch.setattr(Inner, name, vars(Inner)[name])
    monkeypatch.setitem(globals(), "SLOPE", SLOPE)
    critic = Watchful().double()
    with torch._dynamo.config.patch(recompile_limit=2 * len(CHANGES)):
        check(critic, *samples)
        for name, change in CHANGES.items():
            change(critic)
            try:
                check(critic, *samples)
            except AssertionError as error:
                raise AssertionError(f"after a change of {name}") from error


def test_hooks_come_change_and_go(samples):
    critic = Watchful().double()
    check(critic, *samples)
    with torch._dynamo.config.patch(recompile_limit=32):
        for module in (critic, critic.act):
            hook = module.register_forward_hook(lambda module, args, h: 1.3 * h)
            check(critic, *samples)
            hook.remove()
            hook = module.register_forward_hook(lambda module, args, h: h - 0.2)
            check(critic, *samples)
            hook.remove()
            hook = module.register_forward_pre_hook(lambda module, args: (0.7 * args[0],))
            check(critic, *samples)
            hook.remove()
            check(critic, *samples)


def test_hooks_of_a_parameter(samples):
    critic = Watchful().double()
    check(critic, *samples)
    critic.stem.weight.register_hook(lambda g: 2 * g)
    found = gradients(critic, step(critic, *samples))
    assert relative_error(found, truth_of(critic, *samples)) <= 1e-10


def register_tensor_hook(c):
    c.act.register_forward_hook(lambda module, args, h: h.register_hook(lambda g: 2 * g) and None)


BACKWARD_HOOKS = {
    "full": lambda c: c.act.register_full_backward_hook(lambda module, gi, go: (2 * gi[0],)),
    "before": lambda c: c.act.register_full_backward_pre_hook(lambda module, go: (2 * go[0],)),
    "of all modules": lambda c: modules.register_module_full_backward_hook(lambda module, gi, go: (2 * gi[0],)),
    "of all modules, before": lambda c: modules.register_module_full_backward_pre_hook(lambda module, go: (2 * go[0],)),
    "of a tensor": register_tensor_hook,
}


@pytest.mark.parametrize("kind", BACKWARD_HOOKS)
def test_hooks_of_backward_leave_one_pass(samples, kind):
    """They may change gradients at will, so that they are refused, or run by double backward, after they are there."""
    critic = Watchful().double()
    check(critic, *samples)
    hook = BACKWARD_HOOKS[kind](critic)
    try:
        with pytest.raises(fastgan.NotAffineError):
            step(critic, *samples)
        truth = truth_of(critic, *samples)
        found = step(critic, *samples, method="auto")
        assert found.method == "double_backward"
        assert relative_error(gradients(critic, found), truth) <= 1e-10
    finally:
        if hook is not None:
            hook.remove()


class Tripled(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        return 3 * result if func is F.leaky_relu else result


def enter(mode):
    mode.__enter__()
    return lambda: mode.__exit__(None, None, None)


def set_dtype():
    torch.set_default_dtype(torch.float64)
    return lambda: torch.set_default_dtype(torch.float32)


SURROUNDINGS = {
    "device": lambda: enter(torch.device("cpu")),
    "default dtype": set_dtype,
}


@pytest.mark.parametrize("kind", SURROUNDINGS)
def test_what_surrounds_a_step(samples, kind):
    critic = nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU(0.2), nn.Linear(4, 1)).double()
    check(critic, *samples)
    undo = SURROUNDINGS[kind]()
    try:
        check(critic, *samples)
    finally:
        undo()
    check(critic, *samples)


SEE_EVERYTHING = {
    "hook of all modules": lambda: modules.register_module_forward_hook(lambda module, args, h: 1.3 * h).remove,
    "pre-hook of all modules": lambda: modules.register_module_forward_pre_hook(lambda m, args: (2 * args[0],)).remove,
    "TorchFunctionMode": lambda: enter(Tripled()),
}


@pytest.mark.parametrize("kind", SEE_EVERYTHING)
def test_what_would_see_the_compiler_too(samples, kind):
    critic = nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU(0.2), nn.Linear(4, 1)).double()
    check(critic, *samples)
    before = step(critic, *samples, compile="aot_eager")
    truth = truth_of(critic, *samples)
    undo = SEE_EVERYTHING[kind]()
    try:
        with pytest.warns(UserWarning, match=f"runs without the compiler.*{kind.split()[-1]}"):
            check(critic, *samples, compile="aot_eager")
        assert relative_error(gradients(critic, before), truth) <= 1e-10  # T and W are compiled by now
    finally:
        undo()
    check(critic, *samples)


# --- between the passes of a step -------------------------------------------------------------------------------------


class Reads(nn.Module):
    """Multiplies by what `kind` says, before or after it changes that in place."""

    def __init__(self, kind, when=None):
        super().__init__()
        self.kind, self.when, self.copying = kind, when, False
        self.stem, self.head, self.embed = nn.Linear(3, 4), nn.Linear(4, 1), nn.Embedding(2, 4)
        self.register_buffer("buffer", torch.rand(4) + 0.5)
        self.tensor = torch.rand(4).double() + 0.5
        self.frozen = nn.Parameter(torch.rand(4) + 0.5, requires_grad=False)

    def read(self):
        """The textbook, which differentiates much later, reads a copy."""
        k = {"tensor": self.tensor, "frozen": self.frozen}.get(self.kind, self.buffer)
        return k.clone() if self.copying else k

    def change(self):
        with torch.no_grad():
            {"tensor": self.tensor, "a view": self.buffer[1:3]}.get(self.kind, self.buffer).mul_(0.8)

    def forward(self, x, y):
        if self.when == "before":
            self.change()
        k = self.read()
        w = self.stem.weight * k[:, None] if self.kind == "weight" else self.stem.weight
        h = F.leaky_relu(F.linear(x, w, self.stem.bias), 0.2)
        if self.kind == "average":
            with torch.no_grad():
                self.buffer.lerp_(h.abs().mean(0), 0.3)
            k = self.read()
        if self.kind == "label":
            h = h * y[:, None]
        elif self.kind == "added":
            h = F.leaky_relu(h + y[:, None], 0.3)
        elif self.kind == "class":
            h = h * self.embed((y > 0.5).long())
        elif self.kind != "weight":
            h = F.leaky_relu(h * k - 0.1, 0.3)
        if self.when == "after":
            self.change()
        return self.head(h)


def twin(critic):
    other = copy.deepcopy(critic)
    other.copying = True
    return other


@pytest.fixture
def labels(generator):
    return torch.rand(5, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    ("kind", "when"),
    [
        *((kind, when) for kind in ("buffer", "tensor", "a view") for when in ("before", "after")),
        ("weight", "before"),
        ("average", None),
    ],
)
def test_what_forward_changes_itself(samples, labels, kind, when):
    """T reads what F has read, though the next of the step's calls has changed it again."""
    critic = Reads(kind, when).double()
    other = twin(critic)
    for _ in range(2):
        truth = truth_of(other, *samples, labels)
        assert relative_error(gradients(critic, step(critic, *samples, labels, compile="aot_eager")), truth) <= 1e-10
        torch.testing.assert_close(critic.buffer, other.buffer)
        torch.testing.assert_close(critic.tensor, other.tensor)


def test_a_weight_of_what_forward_changes_afterwards_runs_without_the_compiler(samples, labels):
    critic = Reads("weight", "after").double()
    with pytest.warns(UserWarning, match="in place of which it has made a weight"):
        step(critic, *samples, labels)


def change_parameters(critic, real, fake, labels):
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.mul_(1.5)


def change_frozen(critic, real, fake, labels):
    with torch.no_grad():
        critic.frozen.mul_(1.5)


def change_samples(critic, real, fake, labels):
    real.zero_()
    fake.zero_()


BETWEEN = {
    "buffer": lambda critic, *_: critic.buffer.mul_(1.5),
    "tensor": lambda critic, *_: critic.tensor.mul_(1.5),
    "frozen": change_frozen,
    "label": lambda critic, real, fake, labels: labels.mul_(1.5),
    "parameters": change_parameters,
    "samples": change_samples,
    "another call": lambda critic, real, fake, labels: critic(real, labels),
    "other modules": lambda critic, *_: setattr(critic, "head", nn.Linear(4, 1).double()),
}


@pytest.mark.parametrize("kind", ["buffer", "tensor", "frozen", "label", "weight"])
def test_what_changes_between_critic_loss_and_backward(samples, labels, kind):
    critic = Reads(kind).double()
    for name, change in BETWEEN.items():
        truth = truth_of(critic, *samples, labels)
        of = critic.stem.weight, critic.stem.bias, critic.head.weight
        real, fake, y = (t.clone() for t in (*samples, labels))
        found = step(critic, real, fake, y)
        change(critic, real, fake, y)
        if name == "parameters":
            with pytest.raises(RuntimeError, match=r"a weight of shape \[\d, \d\] was modified in place"):
                found.backward()
        elif name == kind != "buffer":
            with pytest.raises(RuntimeError, match=r"a constant of shape \[\d\] that the critic read was modified"):
                found.backward()
        else:
            deposited = torch.autograd.grad(found, of)
            names = ("stem.weight", "stem.bias", "head.weight")
            assert relative_error(dict(zip(names, deposited, strict=True)), {n: truth[n] for n in names}) <= 1e-10


def test_a_label_of_a_class_changed_before_backward(samples, labels):
    critic = Reads("class").double()
    found = step(critic, *samples, labels)
    deposited = torch.autograd.grad(found, critic.stem.weight, retain_graph=True)
    torch.testing.assert_close(deposited[0], truth_of(critic, *samples, labels)["stem.weight"])
    labels.zero_()  # of which the class was made
    torch.testing.assert_close(torch.autograd.grad(found, critic.stem.weight), deposited)


def test_constants_made_in_inference_mode(samples):
    """They do not count their changes, so that they are copied."""
    critic = Reads("added").double()
    with torch.inference_mode():
        y = torch.rand(5).double()
    truth = truth_of(critic, *samples, y.clone())
    found = step(critic, *samples, y)
    with torch.inference_mode():
        y.zero_()
    assert relative_error(gradients(critic, found), truth) <= 1e-10


class OfOne(nn.Module):
    """Two buffers in one memory, of which dynamo tells nothing."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(3, 4), nn.Linear(4, 1)
        self.register_buffer("a", torch.rand(4).double())
        self.register_buffer("b", torch.rand(4).double())

    def forward(self, x):
        self.a.mul_(0.9)
        b = 1 * self.b
        return self.head(F.leaky_relu(self.stem(x) * b, 0.2) * b)


def test_buffers_that_come_to_lie_in_one_memory(samples):
    critic = OfOne().double()
    check(critic, *samples, compile="aot_eager")
    critic.b = critic.a[:]
    other = copy.deepcopy(critic)
    other.b = other.a[:]
    truth = truth_of(other, *samples)
    assert relative_error(gradients(critic, step(critic, *samples, compile="aot_eager")), truth) <= 1e-10


def test_dynamo_is_reset_between_the_passes(samples):
    critic = Watchful().double()
    truth = truth_of(critic, *samples)
    found = step(critic, *samples, compile="aot_eager")
    torch._dynamo.reset()
    assert relative_error(gradients(critic, found), truth) <= 1e-10
    check(critic, *samples, penalties=(R1(2.0),), expected={"r1": 2.0})
