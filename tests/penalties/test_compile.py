"""compile=True: the four passes as two graphs, equal to the textbook.

Most tests stop short of inductor ("eager" runs the graphs as they are, "aot_eager" rewrites them without operations in
place): what is tested is the graphs. test_compile_state.py and test_compile_passes.py have what could make them stale,
test_compile_failures.py what cannot be compiled.
"""

import copy
import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fastgan
from fastgan.penalties import R1, WGANGP
from tests.penalties.compiling import check, loss, step, truth_of
from tests.penalties.critics import CRITICS, batch, build, gradients, relative_error, textbook

pytestmark = [
    pytest.mark.usefixtures("fresh_dynamo", "generator", "one_thread"),
    pytest.mark.filterwarnings("error:fastgan"),
]


@pytest.mark.parametrize(
    ("kind", "backend"),
    [*((kind, "eager") for kind in sorted(CRITICS)), ("moves", "aot_eager"), ("spectral norm", "aot_eager")],
)
def test_compiled_equals_the_textbook(kind, backend):
    critic = build(CRITICS[kind])
    other = copy.deepcopy(critic)
    for i in range(2):  # buffers move on
        real, fake, labels = batch(CRITICS[kind])
        torch.manual_seed(i)  # dropout
        truth = truth_of(other, real, fake, labels)
        torch.manual_seed(i)
        found = step(critic, real, fake, labels, compile=backend)
        assert relative_error(gradients(critic, found), truth) <= 1e-10
        for (name, a), b in zip(critic.named_buffers(), other.buffers(), strict=True):
            torch.testing.assert_close(a, b, msg=f"buffer {name}")


def test_samples_without_a_penalty_and_points_elsewhere():
    critic = build(CRITICS["resnet"])
    samples = batch(CRITICS["resnet"])
    check(critic, *samples, penalties=(R1(3.0),), expected={"r1": 3.0})
    check(critic, *samples, penalties=(WGANGP(10.0),), expected={"wgan_gp": 10.0})


def test_a_penalty_alone():
    critic = build(CRITICS["dcgan"])
    real, _, _ = batch(CRITICS["dcgan"])
    eager = gradients(critic, fastgan.gradient_penalty(critic, real, R1(4.0), method="one_pass"))
    compiled = gradients(critic, fastgan.gradient_penalty(critic, real, R1(4.0), method="one_pass", compile="eager"))
    assert relative_error(compiled, eager) <= 1e-12


@pytest.mark.slow
def test_inductor():
    critic = build(CRITICS["resnet"])
    check(critic, *batch(CRITICS["resnet"]), compile=True)


CHOOSING = {
    "max_pool": lambda h: F.max_pool2d(h, 2).flatten(1),
    "max": lambda h: h.view(-1, 4, 32, 2).max(-1)[0].flatten(1),
    "index": lambda h: h[:, [0, 1, 1, 3]].flatten(1),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["max_pool", *(pytest.param(kind, marks=pytest.mark.thorough) for kind in ("max", "index"))]
)
def test_inductor_reads_what_a_scatter_has_filled(kind):
    """The gradient of a maximum, or of an index, below a convolution: a loop must not be fused before the scatter."""
    middle = CHOOSING[kind]
    shape = middle(torch.zeros(1, 4, 8, 8)).shape

    class Critic(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(shape[1], 1)

        def forward(self, x):
            return self.head(middle(F.leaky_relu(self.stem(x), 0.2)))

    check(Critic().double(), *torch.randn(2, 4, 3, 8, 8, dtype=torch.float64), compile=True)


# --- memory that several tensors share --------------------------------------------------------------------------------


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.middle, self.head, self.narrow = (
            nn.Linear(6, 8),
            nn.Linear(8, 8),
            nn.Linear(8, 1),
            nn.Linear(4, 1),
        )


class ViewBeforeActivation(Layers):
    def forward(self, x):
        h = self.stem(x)
        v = h[:, ::2]
        return self.head(F.leaky_relu(h, 0.2)) + self.narrow(v)


class ViewBesideProduct(Layers):
    def forward(self, x):
        h = self.stem(x)
        v = h[:, ::2]
        return self.head(2 * h) + self.narrow(v)


class ViewOfProduct(Layers):
    def forward(self, x):
        h = 2 * self.stem(x)
        low, _ = h.chunk(2, dim=1)
        return self.head(F.leaky_relu(h / 3, 0.2)) + self.narrow(low) + self.narrow(F.relu(0.5 * low))


class WholeView(Layers):
    def forward(self, x):
        h = self.stem(x)
        v = h[:]
        return self.head(F.leaky_relu(0.5 * h, 0.2) + v)


class PreActivationShortcut(Layers):
    def forward(self, x):
        h = self.stem(x).view(-1, 2, 2, 2)
        return self.head(self.middle(F.relu(2 * h).flatten(1)) + h.flatten(1)) + self.narrow(h[:, :, ::2].flatten(1))


@pytest.mark.parametrize(
    "kind", [ViewBeforeActivation, ViewBesideProduct, ViewOfProduct, WholeView, PreActivationShortcut]
)
def test_views_are_not_written_to(kind):
    critic, (real, fake) = kind().double(), torch.randn(2, 5, 6).double()
    check(critic, real, fake)
    check(critic, real, fake, penalties=(WGANGP(10.0),), expected={"wgan_gp": 10.0})


class Labelled(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(3, 3), nn.Linear(3, 1)

    def forward(self, x, *labels):
        h = F.leaky_relu(self.stem(x), 0.2)
        for y in labels:
            h = h * (y + 1)
        return self.head(h)


def test_arguments_in_one_memory():
    """The same tensor twice, views of one another, the samples themselves: each call is of another kind."""
    critic, (real, fake) = Labelled().double(), torch.randn(2, 5, 3).double()
    y, z = torch.rand(2, 5, 3).double()
    for labels in ((y, z), (y, y), (y, y.view(-1)[:15].view(5, 3)), (real,), (y,), (y, z)):
        truth = gradients(
            critic, textbook(lambda x, labels=labels: critic(x, *labels), real, fake, None, loss, 2.0, 5.0)
        )
        assert relative_error(gradients(critic, step(critic, real, fake, labels)), truth) <= 1e-10
        truth = gradients(
            critic, textbook(lambda x, labels=labels: critic(x, *labels), real, real, None, loss, 2.0, 5.0)
        )
        assert relative_error(gradients(critic, step(critic, real, real, labels)), truth) <= 1e-10


def test_the_gradient_of_a_label():
    critic, (real, fake) = Labelled().double(), torch.randn(2, 5, 3).double()
    y = torch.rand(5, 3).double().requires_grad_()
    textbook(lambda x: critic(x, 2 * y), real, fake, None, loss, 2.0, 5.0).backward()
    truth, y.grad = y.grad, None
    step(critic, real, fake, (2 * y,)).backward()
    torch.testing.assert_close(y.grad, truth, rtol=1e-10, atol=1e-12)


LAYOUTS = {
    "channels last": lambda x: x.to(memory_format=torch.channels_last),
    "samples last": lambda x: x.movedim(0, -1).contiguous().movedim(-1, 0),
    "a slice": lambda x: torch.stack([x, x], -1)[..., 0],
    "one for all": lambda x: x[:1].expand_as(x),
    "with a gradient": lambda x: x.clone().requires_grad_(),
}


def test_memory_layouts():
    critic = build(CRITICS["shared"])
    real, fake, _ = batch(CRITICS["shared"], 3)
    for layout in LAYOUTS.values():
        check(critic, layout(real), layout(fake))


# --- the call's surroundings ------------------------------------------------------------------------------------------


def test_functions():
    """New ones of the same code are not compiled anew."""
    critic, (real, fake) = Labelled().double(), torch.randn(2, 5, 3).double()

    def made(scale):
        return lambda x: critic(x * scale)

    for _ in range(12):  # more than dynamo would compile of one code
        function = made(torch.rand(3).double())
        truth = gradients(critic, textbook(function, real, fake, None, loss, 2.0, 5.0))
        assert relative_error(gradients(critic, step(function, real, fake)), truth) <= 1e-10
    for function in (critic.forward, functools.partial(lambda k, x: critic(k * x), 2.0)):
        truth = gradients(critic, textbook(function, real, fake, None, loss, 2.0, 5.0))
        assert relative_error(gradients(critic, step(function, real, fake)), truth) <= 1e-10


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_is_as_without_a_compiler(dtype):
    critic = build(CRITICS["dcgan"], torch.float32)
    real, fake, _ = batch(CRITICS["dcgan"], dtype=torch.float32)
    truth = truth_of(copy.deepcopy(critic).double(), real.double(), fake.double())
    errors = {}
    for compile in (False, "eager"):
        with torch.autocast("cpu", dtype):
            found = step(critic, real, fake, compile=compile)
        errors[compile] = relative_error({k: g.double() for k, g in gradients(critic, found).items()}, truth)
    assert errors["eager"] <= 2 * errors[False]
    check(critic.double(), real.double(), fake.double())


class Exact(Layers):
    """Turns autocast off for all that it does."""

    def forward(self, x):
        with torch.autocast("cpu", enabled=False):
            return self.head(F.leaky_relu(self.middle(F.relu(self.stem(x))), 0.2))


def test_what_the_critic_keeps_from_autocast_is_kept_from_it():
    critic, (real, fake) = Exact(), torch.randn(2, 5, 6)
    truth = truth_of(copy.deepcopy(critic).double(), real.double(), fake.double())
    with torch.autocast("cpu", torch.bfloat16):
        found = gradients(critic, step(critic, real, fake))
    assert relative_error({name: g.double() for name, g in found.items()}, truth) <= 1e-4


def test_without_autograd():
    critic, (real, fake) = Labelled().double(), torch.randn(2, 5, 3).double()
    with torch.no_grad():
        found = step(critic, real, fake)
    assert not found.requires_grad
    torch.testing.assert_close(found.detach() * 1, textbook(critic, real, fake, None, loss, 2.0, 5.0).detach())
    check(critic, real, fake)


class Leaves(Layers):
    """Keeps tensors on itself, one of them with one number for each sample, before it returns."""

    def forward(self, x):
        self.first = x.sum(1) * self.stem.bias.sum()
        self.part, self.doubled = self.stem.weight[:2], 2 * self.head.weight
        self.features = F.leaky_relu(self.stem(x), 0.2)
        return F.linear(self.features, self.doubled, self.head.bias)


def test_what_forward_leaves_behind():
    critic, (real, fake) = Leaves().double(), torch.randn(2, 5, 6).double()
    truth = truth_of(critic, real, fake)
    for _ in range(2):
        assert relative_error(gradients(critic, step(critic, real, fake)), truth) <= 1e-10
    torch.testing.assert_close(critic.features.detach(), F.leaky_relu(critic.stem(fake), 0.2).detach())
    for left in (critic.first, critic.part, critic.doubled, critic.features):
        assert left.requires_grad
        with pytest.raises(RuntimeError, match="forward kept"):
            left.sum().backward()
