"""What is picked from each sample by its position: classes by label, windows, diagonals; what mixes them is refused."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fastgan
from fastgan.penalties import R1, R2
from tests.penalties.critics import gradients, relative_error, textbook
from tests.rotation import in_turn

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:fastgan.critic_loss runs without the compiler"),
]
I = torch.tensor  # noqa: E741


def arange(h: Tensor) -> Tensor:
    return torch.arange(len(h))


def folded(h: Tensor) -> Tensor:
    """[B, 12] -> [B, 3, 4]."""
    return h.view(-1, 3, 4)


PICKED = {
    "the logit of the class": lambda h, y: h[arange(h), y],
    "by labels of 32 bits": lambda h, y: h[torch.arange(len(h), dtype=torch.int32), y.int()],
    "a row of the class": lambda h, y: folded(h)[arange(h), y % 3],
    "an element of the class": lambda h, y: folded(h)[arange(h), y % 3, y % 4],
    "two classes, in columns": lambda h, y: h[arange(h)[:, None], torch.stack([y, (y + 1) % 12], 1)],
    "two classes, in rows": lambda h, y: h[arange(h), torch.stack([y, (y + 1) % 12], 0)].t(),
    "samples in the second dimension": lambda h, y: h.t()[y, arange(h)],
    "indices before the samples": lambda h, y: h.t()[I([1, 3, 3])].t(),
    "a table before the samples": lambda h, y: h.t()[I([[1, 3], [3, 2], [0, 0]])].permute(2, 0, 1),
    "every sample": lambda h, y: h[arange(h)],
    "a mask after the samples": lambda h, y: h[:, I([True, False] * 6)],
    "gather": lambda h, y: h.gather(1, y[:, None]),
    "take_along_dim": lambda h, y: torch.take_along_dim(folded(h), (y % 3)[:, None, None], 1),
    "index_select": lambda h, y: h.index_select(1, I([1, 1, 5])),
    "the largest, by its index": lambda h, y: h.gather(1, h.argmax(1, keepdim=True)),
    "windows": lambda h, y: h.unfold(1, 3, 2),
    "diagonal": lambda h, y: folded(h).diagonal(0, 1, 2),
    "diagonal before the samples": lambda h, y: folded(h).permute(1, 2, 0).diagonal(1, 0, 1),
    "repeated": lambda h, y: h.repeat(1, 2),
    "repeated in front": lambda h, y: h.repeat(2, 1, 1).transpose(0, 1),
}
MIXED = {
    "in another order": lambda h, y: h[arange(h).flip(0), y],
    "some samples": lambda h, y: h[arange(h)[1:], y[1:]],
    "a mask before the samples": lambda h, y: h.t()[I([True, False] * 6)].t(),
    "a slice between": lambda h, y: folded(h)[arange(h), :, y % 4],
    "gather of some": lambda h, y: h.gather(1, y[:2, None]),
    "gather along the samples": lambda h, y: h.gather(0, (y % 2)[:, None]),
    "repeated samples": lambda h, y: h.repeat(2, 1)[: len(h)],
    "windows of samples": lambda h, y: h.unfold(0, 2, 1)[..., 0].repeat(3, 1)[: len(h)],
    "diagonal through the samples": lambda h, y: h.diagonal()[:, None],
}


class Picking(nn.Module):
    def __init__(self, pick) -> None:
        super().__init__()
        self.pick, self.first = pick, nn.Linear(6, 12)
        features = pick(torch.zeros(4, 12), torch.zeros(4, dtype=torch.int64)).reshape(4, -1).shape[1]
        self.middle, self.last = nn.Linear(features, 5), nn.Linear(5, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h = F.leaky_relu(self.first(x), 0.2)
        picked = self.pick(h, y).reshape(len(x), -1)
        return self.last(F.leaky_relu(self.middle(picked), 0.2))


def loss(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def one_pass(critic: nn.Module, real: Tensor, fake: Tensor, y: Tensor, compile: bool | str = False):
    return fastgan.critic_loss(
        critic, real, fake, loss=loss, penalties=(R1(2.0), R2(1.0)), labels=y, fake_labels=y, method="one_pass",
        compile=compile,
    )  # fmt: skip


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", PICKED)
def test_picked_from_each_sample(name, batch, generator):
    check(name, batch, False, generator)


@pytest.mark.parametrize("name", in_turn(list(PICKED), "picked, compiled", run=4))
def test_compiled_or_run_without_the_compiler(name, generator):
    check(name, 4, "eager", generator)


def check(name, batch, compile, generator):
    critic = Picking(PICKED[name]).double()
    real, fake = torch.randn(2, batch, 6, generator=generator).double()
    y = torch.randint(12, (batch,), generator=generator)
    truth = gradients(other := copy.deepcopy(critic), textbook(other, real, fake, y, loss, r1=2.0, r2=1.0))
    found = gradients(critic, one_pass(critic, real, fake, y, compile))
    assert relative_error(found, truth) <= 1e-10


@pytest.mark.parametrize("name", MIXED)
def test_what_mixes_the_samples_is_refused(name, generator):
    critic = Picking(lambda h, y: h).double()
    critic.pick = lambda h, y: (MIXED[name](h, y), h)[1]
    real, fake = torch.randn(2, 4, 6, generator=generator).double()
    with pytest.raises(fastgan.NotAffineError, match=r"samples|mask"):
        one_pass(critic, real, fake, I([3, 0, 11, 5]))


@pytest.mark.parametrize("compile", [False, "eager"])
def test_the_order_of_the_samples_is_read_at_every_step(compile, generator):
    """An index that was in order once may not be later: it comes from the critic's state."""

    class Ordered(Picking):
        def __init__(self) -> None:
            super().__init__(lambda h, y: h[: len(h), :1])
            self.register_buffer("order", torch.arange(3))
            self.pick = lambda h, y: h[self.order, y]

    critic = Ordered().double()
    y = I([3, 0, 11])
    for order in ([0, 1, 2], [0, 1, 2], [2, 1, 0], [0, 1, 2]):
        critic.order.copy_(I(order))
        real, fake = torch.randn(2, 3, 6, generator=generator).double()
        if order != [0, 1, 2]:
            with pytest.raises(fastgan.NotAffineError, match="indexing along the samples"):
                one_pass(critic, real, fake, y, compile)
            continue
        other = copy.deepcopy(critic)
        other.pick = lambda h, y: h[arange(h), y]
        truth = gradients(other, textbook(other, real, fake, y, loss, r1=2.0, r2=1.0))
        assert relative_error(gradients(critic, one_pass(critic, real, fake, y, compile)), truth) <= 1e-10
