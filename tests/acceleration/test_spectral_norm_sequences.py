"""Spectral norms in random sequences of what people do with a critic, beside the same critic with the norms it had.

A forward pass uses any of the layers, in any order, once or more; layers are called outside of it; modes change in
between and inside; passes fail, are checkpointed, differentiated together and apart. Outputs, vectors and gradients
(None where PyTorch has None), and whether a backward pass raises, are those of the layers before `accelerate` or
`spectral_norm_`, step by step in float64.
"""

import copy
import random
import warnings
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import fastgan
from fastgan.nn import spectral_norm_
from tests.acceleration.normalised_layers import KINDS

SIZE = 4
MODES = {"as it is": nullcontext, "no_grad": torch.no_grad, "enable_grad": torch.enable_grad}


class StoppedError(Exception):
    pass


class Body(nn.Module):
    """Called as a whole: where it has a group of its own, that is nested."""

    def __init__(self, linear):
        super().__init__()
        self.layers = nn.ModuleList(linear(SIZE, SIZE) for _ in range(2))

    def forward(self, x, plan, checkpoints):
        return walk(self.layers, x, plan, checkpoints)[-1]


class Critic(nn.Module):
    def __init__(self, linear):
        super().__init__()
        self.body = Body(linear)
        self.heads = nn.ModuleList(linear(SIZE, SIZE) for _ in range(4))

    def forward(self, x, plan, checkpoints):
        before, inside, after = plan
        outputs = walk(self.heads, x, before, checkpoints)
        h = self.body(outputs[-1], inside, checkpoints) if inside else outputs[-1]
        return [*outputs, *walk(self.heads, h, after, checkpoints)]


def walk(layers, x, plan, checkpoints):
    """The outputs of some layers, each of x or of the one before it."""
    outputs = [x]
    for i, mode, what in plan:
        layer = layers[i]
        with MODES[mode]():
            if what == "fail":
                raise StoppedError
            if what == "scale":
                with torch.no_grad():
                    raw_weight(layer).mul_(1.25)
            if what == "eval":
                layer.eval()
            h = outputs[-1] if what != "branch" else x
            checkpointed = checkpoints is not None and torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
            if checkpointed and h.requires_grad:
                y = checkpoint(lambda h, layer=layer: torch.tanh(layer(h)), h, use_reentrant=checkpoints)
            else:
                y = torch.tanh(layer(h))
            outputs.append(y)
    return outputs[1:] or outputs


def raw_weight(layer):
    return next(p for p in layer.parameters() if p.ndim == 2)


def draw_walk(rng, layers, length):
    whats = ["layer"] * 8 + ["branch"] * 6 + ["scale", "eval"] + ["fail"] * (rng.random() < 0.1)
    modes = ["as it is"] * 10 + ["no_grad", "enable_grad"]
    return [(rng.randrange(layers), rng.choice(modes), rng.choice(whats)) for _ in range(rng.randrange(length))]


def draw_actions(rng, count):
    habit = (draw_walk(rng, 4, 4), draw_walk(rng, 2, 3), draw_walk(rng, 4, 4))  # so that guesses are right, too
    for _ in range(count):
        plan = habit if rng.random() < 0.4 else (draw_walk(rng, 4, 4), draw_walk(rng, 2, 3), draw_walk(rng, 4, 4))
        yield rng.choices(
            [
                ("forward", plan, "as it is"), ("forward", plan, rng.choice(["no_grad", "inference"])),
                ("head", rng.randrange(4), rng.choice(["as it is", "no_grad"])), ("weight", rng.randrange(4)),
                ("backward", rng.choice(["together", "apart", "one", "penalty"])), ("step",),
                ("train", rng.random() < 0.7, rng.randrange(6)), ("copy",), ("save",),
            ],
            [8, 2, 3, 1, 5, 2, 2, 1, 1],
        )[0]  # fmt: skip


class Run:
    """One of the two critics, and what has been computed with it and not been differentiated yet."""

    def __init__(self, critic, checkpoints, checkpointed):
        self.critic, self.checkpoints, self.checkpointed, self.outputs = critic, checkpoints, checkpointed, []

    def act(self, action, x):
        """What an action gives to be compared."""
        kind, *rest = action
        return getattr(self, kind)(*rest, x)

    def forward(self, plan, mode, x):
        context = torch.inference_mode if mode == "inference" else MODES[mode]
        with context():
            try:
                found = self.critic(x.clone().requires_grad_(), plan, self.checkpoints)
            except StoppedError:
                return ["failed"]
        self.outputs += [y for y in found if y.requires_grad]
        return [y.detach() for y in found] + [torch.tensor(float(y.requires_grad)) for y in found]

    def head(self, i, mode, x):
        with MODES[mode]():
            y = self.critic.heads[i](x)
        self.outputs += [y] if y.requires_grad else []
        return [y.detach()]

    def weight(self, i, x):
        layer = self.critic.heads[i]
        return [layer.weight.detach().clone()] if hasattr(layer, "parametrizations") else []

    def backward(self, how, x):
        outputs, self.outputs = self.outputs, []
        if not outputs:
            return []
        if how == "one":
            outputs = outputs[-1:]
        losses = [(y * torch.linspace(0.5, 1.5, y.numel(), dtype=y.dtype).view(y.shape)).sum() for y in outputs]
        parameters = list(self.critic.parameters())
        try:
            if how == "penalty" and not self.checkpointed:
                first = torch.autograd.grad(sum(losses), parameters, create_graph=True, allow_unused=True)
                squares = [g.square().sum() for g in first if g is not None and g.requires_grad]
                losses = [sum(squares)] if squares else losses
            for loss in losses if how == "apart" else [sum(losses)]:
                loss.backward()
        except RuntimeError as error:
            self.critic.zero_grad()
            return [str(error)]
        found = [p.grad for p in parameters]
        self.critic.zero_grad()
        return ["none" if g is None else g for g in found]

    def step(self, x):
        for p in self.critic.parameters():
            with torch.no_grad():
                p.add_(torch.linspace(-0.1, 0.1, p.numel(), dtype=p.dtype).view(p.shape))
        self.outputs = []
        return []

    def train(self, mode, which, x):
        (self.critic if which > 3 else self.critic.heads[which]).train(mode)
        return []

    def copy(self, x):
        for layer in self.critic.modules():
            if hasattr(layer, "weight_orig"):  # torch's hook leaves its last weight there, which nobody can copy
                layer.weight = layer.weight.detach()
        self.critic = copy.deepcopy(self.critic)
        self.outputs = []
        return []

    def save(self, x):
        self.critic.load_state_dict({name: t.clone() for name, t in self.critic.state_dict().items()})
        self.outputs = []
        return []


def assert_same(found, expected, after):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        if isinstance(a, str) or isinstance(b, str):
            assert a == b if isinstance(a, type(b)) else False, (after, a, b)
        else:
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10, msg=lambda m: f"after {after}: {m}")


def pair(kind, nested):
    """A critic and its copy by fastgan."""
    linear = KINDS[kind][1]
    theirs = Critic(linear).double()
    ours = copy.deepcopy(theirs)
    change = spectral_norm_ if kind == "parametrization" and nested == "spectral_norm_" else fastgan.accelerate
    if nested:
        change(ours.body)
        change(ours)
        if change is fastgan.accelerate:
            fastgan.accelerate(ours.body)  # takes its layers out of the whole's group
    else:
        change(ours)
    return theirs, ours


CASES = [*((kind, "") for kind in KINDS if kind != "mixed"), ("parametrization", "spectral_norm_"), ("hook", "nested")]


@pytest.mark.parametrize(("kind", "nested"), CASES)
@pytest.mark.parametrize("checkpoints", [None, False, True], ids=["plain", "checkpoint", "reentrant"])
def test_random_sequences(kind, nested, checkpoints, seed):
    rng = random.Random(seed)
    torch.manual_seed(seed)
    theirs, ours = pair(kind, nested)
    checkpointed = checkpoints is not None
    runs = Run(theirs, None, checkpointed), Run(ours, checkpoints, checkpointed)
    done = []
    for action in draw_actions(rng, 15):
        done.append(action)
        x = torch.randn(3, SIZE, dtype=torch.float64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected, found = (run.act(action, x) for run in runs)
        if action[0] == "backward" and expected and isinstance(expected[0], str) and len(expected) == 1:
            # What eval mode reads is read in place by torch's norms, copied by ours; a checkpoint holds nothing.
            if "inplace" not in expected[0] and not checkpointed:
                assert str(found[0])[:40] == expected[0][:40], done
            continue
        assert_same(found, expected, done)
        assert_same(list(runs[1].critic.state_dict().values()), list(runs[0].critic.state_dict().values()), done)
