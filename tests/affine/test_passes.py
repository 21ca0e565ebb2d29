"""The tape by itself: its gradients, and what it keeps alive."""

import copy
import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fastgan
from fastgan.affine import NotAffineError, Tape
from tests.affine.one_output import record
from tests.penalties.critics import CRITICS, batch, build

pytestmark = pytest.mark.usefixtures("one_thread")
aten = torch.ops.aten


def loss(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real).mean() + F.softplus(fake).mean()


@pytest.mark.parametrize("kind", CRITICS)
def test_the_gradient_is_autograd_s(kind, seed):
    torch.manual_seed(seed)
    critic = build(CRITICS[kind])
    x, _, labels = batch(CRITICS[kind], 4)
    rest = () if labels is None else (labels,)
    other, at = copy.deepcopy(critic), x.clone().requires_grad_()
    torch.manual_seed(seed)
    expected = other(at, *rest)
    (g,) = torch.autograd.grad(expected.sum(), at)
    torch.manual_seed(seed)
    output, tape = record(critic, x, *rest)
    torch.testing.assert_close(output, expected.detach())
    assert not output.requires_grad
    assert x.grad is None
    found, constants = tape.gradient([torch.ones_like(output)])
    torch.testing.assert_close(found, g)
    assert not constants, "without s no constant has a gradient"


def test_the_seed_of_the_gradient():
    critic = build(CRITICS["dcgan"])
    x = batch(CRITICS["dcgan"], 4)[0]
    output, tape = record(critic, x)
    one, _ = tape.gradient([torch.ones_like(output)], keep=False)
    seed = torch.tensor([1.0, -2.0, 0.0, 3.0]).double()
    other, _ = tape.gradient([seed.view_as(output)], keep=False)
    torch.testing.assert_close(other, one * seed.view(-1, 1, 1, 1))


@pytest.mark.parametrize("s", [None, "zeros", "random"])
def test_weight_gradients_are_of_s_d_plus_v_g(s):
    """T and W give the gradient of sum_i s_i D(x_i) + <v_i, g_i>."""
    critic = build(CRITICS["resnet"])
    x = batch(CRITICS["resnet"], 4)[0]
    v = torch.randn_like(x)
    factor = torch.zeros(4).double() if s == "zeros" else torch.randn(4).double()
    at = x.clone().requires_grad_()
    output = critic(at)
    (g,) = torch.autograd.grad(output.sum(), at, create_graph=True)
    expected = (v * g).sum() + (0 if s is None else (factor * output.flatten()).sum())
    truth = dict(
        zip(
            critic.parameters(),
            torch.autograd.grad(expected, list(critic.parameters()), allow_unused=True),
            strict=True,
        )
    )
    output, tape = record(critic, x)
    given = None if s is None else factor
    _, constants = tape.gradient([torch.ones_like(output)], given)
    found = tape.weight_gradients(v if s is None else v + factor.view(-1, 1, 1, 1) * x, given)
    critic.zero_grad()
    for part in (constants, found):  # a slot may be a view of a parameter
        for slot, gradient in part.items():
            torch.autograd.backward(slot.tensor, gradient)
    for parameter, expected in truth.items():
        deposited = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(deposited, torch.zeros_like(parameter) if expected is None else expected)


class Deep(nn.Module):
    """Twelve convolutions at one resolution."""

    def __init__(self, act=lambda: nn.LeakyReLU(0.2)) -> None:
        super().__init__()
        layers = [nn.Conv2d(3, 16, 3, padding=1), act()]
        for _ in range(11):
            layers += [nn.Conv2d(16, 16, 3, padding=1), act()]
        self.layers, self.head = nn.Sequential(*layers), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x).mean((2, 3)))


def living() -> dict[int, int]:
    """Bytes of every storage that a tensor holds."""
    gc.collect()
    found = {}
    for thing in gc.get_objects():
        if issubclass(type(thing), Tensor) and thing.layout == torch.strided:
            storage = thing.untyped_storage()
            found[storage._cdata] = storage.nbytes()
    return found


@pytest.mark.parametrize("in_place", [False, True])
def test_activations_die(in_place):
    critic, seen = Deep(lambda: nn.LeakyReLU(0.2, inplace=in_place)), []
    for module in critic.layers:
        module.register_forward_hook(lambda m, args, output: seen.append(weakref.ref(output)))
    output, tape = record(critic, torch.randn(4, 3, 32, 32))
    gc.collect()
    assert len(seen) == 24
    assert [i for i, r in enumerate(seen) if r() is not None] == []
    tape.gradient([torch.ones_like(output)])


@pytest.mark.parametrize("act", [lambda: nn.LeakyReLU(0.2), nn.ReLU, lambda: nn.LeakyReLU(0.2, inplace=True)])
def test_the_tape_is_masks_of_one_bit(act):
    critic, x = Deep(act), torch.randn(4, 3, 32, 32)
    before = living()
    output, tape = record(critic, x)
    held = sum(size for storage, size in living().items() if storage not in before)
    activations = 12 * 4 * 16 * 32 * 32 * 4
    masks = activations // 32
    assert masks <= held <= 1.25 * masks + 4096
    assert tape.nodes
    assert output.shape == (4, 1)


def count() -> int:
    """Tapes that are alive; a failed test's traceback may hold some."""
    return sum(1 for thing in gc.get_objects() if type(thing) is Tape)


def test_nothing_is_left_of_a_step():
    """Once the result is gone, so are masks, cotangents and graph, without the garbage collector's help."""
    critic, x = Deep(), torch.randn(4, 3, 32, 32)
    fastgan.critic_loss(critic, x, x, method="one_pass").backward()
    before, tapes = sum(living().values()), count()
    gc.disable()
    try:
        for _ in range(3):
            total = fastgan.critic_loss(critic, x, x, method="one_pass")
            total.backward()
            del total
        alive = count()
    finally:
        gc.enable()
    assert alive == tapes
    assert sum(living().values()) <= before


def test_a_dead_branch_is_not_kept():
    """What does not lead to the output is dropped, and its weights are no slots."""

    class Branch(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(4, 1), nn.Linear(4, 9)

        def forward(self, x):
            self.unused(x).relu()
            return self.used(x)

    critic = Branch()
    _, tape = record(critic, torch.randn(3, 4))
    assert {id(slot.tensor) for slot in tape.slots.values()} & {id(p) for p in critic.unused.parameters()} == set()
    with pytest.raises(NotAffineError, match="does not depend"):
        record(lambda x: critic.used(torch.zeros(3, 4)), torch.randn(3, 4))
