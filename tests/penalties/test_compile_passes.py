"""compile=: tensors that a step has read are changed, by the critic or by others, before its passes read them again.

Backward then raises, as it does without a compiler, or gives the gradient at the values that the forward pass read.
"""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.penalties.compiling import check, step, truth_of
from tests.penalties.critics import gradients, relative_error

pytestmark = [
    pytest.mark.usefixtures("fresh_dynamo", "generator", "one_thread"),
    pytest.mark.filterwarnings("error:fastgan"),
]


@pytest.fixture
def samples(generator):
    return torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)


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


class ReadsTwice(nn.Module):
    """Reads a buffer before and after it changes a part of it."""

    def __init__(self):
        super().__init__()
        self.stem, self.head, self.copying = nn.Linear(3, 4), nn.Linear(4, 1), False
        self.register_buffer("buffer", torch.rand(4) + 0.5)

    def forward(self, x):
        h = self.stem(x) * (self.buffer.clone() if self.copying else self.buffer)
        self.buffer[1:3].mul_(0.8)
        return self.head(F.relu(h - self.buffer))


@pytest.mark.slow
def test_what_inductor_takes_for_a_copy(samples):
    """It returns the buffer itself, which the step's next call changes."""
    critic = ReadsTwice().double()
    truth = truth_of(twin(critic), *samples)
    assert relative_error(gradients(critic, step(critic, *samples, compile=True)), truth) <= 1e-10


def test_a_weight_of_what_forward_changes_afterwards_runs_without_the_compiler(samples, labels):
    critic = Reads("weight", "after").double()
    with pytest.warns(UserWarning, match="of which the critic has made a weight"):
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


class LeavesViews(nn.Module):
    """Keeps a view of a buffer that it changes, and one of a weight."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(3, 4), nn.Linear(4, 1)
        self.register_buffer("buffer", torch.rand(5)[1:])

    def forward(self, x):
        self.buffer.mul_(0.9)
        self.part, self.rows = self.buffer[1:3], self.stem.weight[1:]
        return self.head(F.leaky_relu(self.stem(x), 0.2) * (1 * self.buffer))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_views_that_forward_leaves(samples, backend):
    critic = LeavesViews().double()
    other = copy.deepcopy(critic)
    for _ in range(2):
        found = gradients(critic, step(critic, *samples, compile=backend))
        assert relative_error(found, truth_of(other, *samples)) <= 1e-10
        torch.testing.assert_close(critic.buffer, other.buffer)
        torch.testing.assert_close(critic.part, other.part)
        assert critic.part.data_ptr() == critic.buffer[1:].data_ptr()
        assert critic.rows.data_ptr() == critic.stem.weight[1:].data_ptr()
