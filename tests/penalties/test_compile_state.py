"""compile=: changes between two compiled steps take effect as if nothing was compiled.

test_compile_passes.py has what changes between the passes of one step.
"""

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


def test_dynamo_is_reset(samples):
    critic = Watchful().double()
    truth = truth_of(critic, *samples)
    found = step(critic, *samples, compile="aot_eager")
    torch._dynamo.reset()
    assert relative_error(gradients(critic, found), truth) <= 1e-10
    check(critic, *samples, penalties=(R1(2.0),), expected={"r1": 2.0})
