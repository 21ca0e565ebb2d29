"""compile=: random small critics whose state changes under way, against the textbook in float64.

FASTGAN_EXAMPLES=2000 looks at more of them; a failure prints what reproduces it. The textbook's twin reads copies of
tensors that a critic changes in place, since PyTorch differentiates later than they change.
"""

import copy
import os
import random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastgan.penalties import R1, R2, WGANGP
from tests.penalties.compiling import step, truth_of
from tests.penalties.critics import relative_error

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("error:fastgan")]

EXAMPLES = int(os.environ.get("FASTGAN_EXAMPLES", 8))
WIDTH = 6


class Layer(nn.Module):
    """One operation on [B, WIDTH], of which each kind is a method."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.copying, self.number = kind, False, random.uniform(0.5, 1.5)
        self.linear, self.embed = nn.Linear(WIDTH, WIDTH), nn.Embedding(2, WIDTH)
        self.register_buffer("buffer", torch.rand(WIDTH) + 0.5)
        self.tensor = torch.rand(WIDTH).double() + 0.5

    def forward(self, h: Tensor, y: Tensor) -> Tensor:
        return getattr(self, self.kind)(h, y)

    def read(self, tensor: Tensor) -> Tensor:
        return tensor.clone() if self.copying else tensor

    def dense(self, h, y):
        return self.linear(h)

    def rectified(self, h, y):
        return F.leaky_relu(self.linear(h), 0.2)

    def in_place(self, h, y):
        return F.relu(self.linear(h).mul_(self.number), inplace=True)

    def folded(self, h, y):
        return h.abs().clamp(max=2.0) - self.number

    def scalar(self, h, y):
        return 2 * h + h / 3

    def shifted(self, h, y):
        return (h + self.linear.bias) - 1

    def view_before(self, h, y):
        v = h[:, ::2]
        return torch.cat([F.leaky_relu(h, 0.2)[:, :3] + v, (2 * h)[:, 3:]], dim=1)

    def whole_view(self, h, y):
        v = h[:]
        return F.leaky_relu(self.number * h, 0.1) + v

    def chunks(self, h, y):
        a, b = h.chunk(2, dim=1)
        return torch.cat([F.relu(a) - 2 * b, b], dim=1)

    def flattened(self, h, y):
        v = h.view(-1, 2, 3)
        return F.relu(2 * h) + v.flip(1).flatten(1)

    def buffered(self, h, y):
        return F.leaky_relu(h * self.read(self.buffer) - 0.1, 0.3)

    def of_tensor(self, h, y):
        return F.relu(h + self.read(self.tensor)) * self.read(self.tensor)

    def moving_before(self, h, y):
        self.buffer.mul_(0.9).add_(0.1)
        return h / self.read(self.buffer) + self.read(self.buffer)

    def moving_after(self, h, y):
        h = h * self.read(self.buffer)
        self.buffer[1:4].mul_(0.8)
        return h - self.read(self.buffer)

    def average(self, h, y):
        with torch.no_grad():
            self.buffer.lerp_(h.abs().mean(0) + 0.1, 0.3)
        return h / self.read(self.buffer)

    def replaced(self, h, y):
        self.tensor = 0.9 * self.tensor + 0.1 * h.detach().abs().mean(0)
        return h / self.tensor

    def normalised(self, h, y):
        w = self.linear.weight / self.linear.weight.norm()
        return F.linear(h, w * self.read(self.buffer)[:, None])

    def of_label(self, h, y):
        return h * y[:, None] + self.embed((y > 1).long())

    def left(self, h, y):
        self.features = F.leaky_relu(self.linear(h), 0.2)
        self.sums = h.sum(1)
        return self.features + h


KINDS = [name for name, member in vars(Layer).items() if callable(member) and not name.startswith("_")]
KINDS = [name for name in KINDS if name not in ("forward", "read")]


class Critic(nn.Module):
    def __init__(self, kinds: list[str]) -> None:
        super().__init__()
        self.stem, self.layers, self.head = nn.Linear(3, WIDTH), nn.ModuleList(map(Layer, kinds)), nn.Linear(WIDTH, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h = self.stem(x)
        for layer in self.layers:
            h = layer(h, y)
        return self.head(h)


# Each is done to the critic and to the textbook's twin.
CHANGES = {
    "nothing": lambda layer, number: None,
    "number": lambda layer, number: setattr(layer, "number", number),
    "kind": lambda layer, number: setattr(layer, "kind", KINDS[int(1000 * number) % len(KINDS)]),
    "buffer": lambda layer, number: setattr(layer, "buffer", torch.full((WIDTH,), number).double()),
    "tensor": lambda layer, number: layer.tensor.mul_(number),
    "frozen": lambda layer, number: layer.linear.weight.requires_grad_(not layer.linear.weight.requires_grad),
    "hook": lambda layer, number: layer.register_forward_hook(lambda module, args, h: number * h),
    "pre-hook": lambda layer, number: layer.register_forward_pre_hook(lambda module, args: (number * args[0], args[1])),
    "no hooks": lambda layer, number: (layer._forward_hooks.clear(), layer._forward_pre_hooks.clear()),
}

# Done to the critic between its passes; what is read again raises, or is what was read.
BETWEEN = {
    "nothing": lambda layer, y: None,
    "buffer": lambda layer, y: layer.buffer.mul_(1.5),
    "tensor": lambda layer, y: layer.tensor.mul_(1.5),
    "label": lambda layer, y: y.mul_(1.5),
    "weight": lambda layer, y: nn.init.normal_(layer.linear.weight),
    "number": lambda layer, y: setattr(layer, "number", 7.0),
}

PENALTIES = (
    ((R1(2.0), R2(5.0)), {"r1": 2.0, "r2": 5.0}),
    ((R1(2.0), R2(5.0), WGANGP(10.0)), {"r1": 2.0, "r2": 5.0, "wgan_gp": 10.0}),
)


def run(seed: int) -> None:
    """A few steps of one critic; the seed chooses everything."""
    random.seed(seed)
    torch.manual_seed(seed)
    critic = Critic(random.choices(KINDS, k=random.randint(1, 4))).double()
    twin = copy.deepcopy(critic)
    for layer in twin.layers:
        layer.copying = True
    backend = random.choice(("eager", "eager", "aot_eager"))
    penalties, weights = random.choice(PENALTIES)
    samples = torch.randn(2, random.choice((5, 5, 1)), 3).double()
    for _ in range(3):
        change, place, number = (
            random.choice(list(CHANGES)),
            random.randrange(len(critic.layers)),
            random.uniform(0.5, 2),
        )
        for of in (critic, twin):
            CHANGES[change](of.layers[place], number)
        y = torch.rand(len(samples[0])).double() + 0.5
        points = torch.randint(2**31, ()).item()
        torch.manual_seed(points)
        truth = truth_of(twin, *samples, y, **weights)
        torch.manual_seed(points)
        found = step(critic, *samples, y, penalties=penalties, compile=backend)
        state = {name: b.clone() for name, b in critic.named_buffers()}
        for (name, a), b in zip(state.items(), twin.buffers(), strict=True):
            torch.testing.assert_close(a, b, msg=f"buffer {name}")
        between = random.choice(list(BETWEEN))
        before = (
            copy.deepcopy(critic.state_dict()),
            [layer.tensor.clone() for layer in critic.layers],
            critic.layers[place].number,
        )
        BETWEEN[between](critic.layers[place], y)
        critic.zero_grad()
        try:
            found.backward()
        except RuntimeError as error:
            if between == "nothing" or "modified in place between critic_loss and backward" not in str(error):
                raise
        else:
            deposited = {
                name: torch.zeros_like(p) if p.grad is None else p.grad
                for name, p in critic.named_parameters()
                if p.requires_grad
            }
            assert relative_error(deposited, truth) <= 1e-10, (change, between)
        critic.load_state_dict(before[0])
        for layer, tensor in zip(critic.layers, before[1], strict=True):
            layer.tensor = tensor
        critic.layers[place].number = before[2]


def test_random_critics(seed):
    for i in range(EXAMPLES):
        torch._dynamo.reset()
        try:
            run(seed + i)
        except Exception:
            print(f"run({seed + i})")
            raise
    torch._dynamo.reset()
