"""Where critics live, and which methods work there: each cell of the table in docs/gradient-penalties.md.

`fully_shard` and DistributedDataParallel are in test_directional_distributed.py and test_distributed.py, autocast in
test_directional.py and test_mixed_precision.py.
"""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

import fastgan
from fastgan.penalties import R1, R2, NoMethodError
from tests.penalties.common import plain
from tests.penalties.smooth_critics import error

PENALTIES = (R1(2.0), R2(3.0))
METHODS = ("one_pass", "double_backward", "directional")


def _called(region: nn.Module, h: Tensor) -> Tensor:
    return region(h)


class Critic(nn.Module):
    """Two layers inside a region that a setting runs in its own way, between two others."""

    def __init__(self, activation: type[nn.Module], derived: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 1)
        self.region: nn.Module = nn.Sequential(nn.Linear(8, 8), activation(), nn.Linear(8, 8), activation())
        if derived:
            parametrizations.weight_norm(self.region[0])
            parametrizations.spectral_norm(self.region[2]).eval()
        self.through: Callable[[nn.Module, Tensor], Tensor] = _called

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.through(self.region, self.first(x)))


def checkpointed(reentrant: bool) -> Callable[[Critic], nn.Module]:
    def put(critic: Critic) -> nn.Module:
        critic.through = lambda region, h: checkpoint(region, h, use_reentrant=reentrant)
        return critic

    return put


def compiled_part(critic: Critic) -> nn.Module:
    critic.region = torch.compile(critic.region, backend="aot_eager")
    return critic


def compiled(critic: Critic) -> nn.Module:
    return torch.compile(critic, backend="aot_eager")


def functional(critic: Critic) -> Callable[[Tensor], Tensor]:
    weights = dict(critic.named_parameters())
    return lambda x: torch.func.functional_call(critic, weights, (x,))


SETTINGS: dict[str, Callable] = {
    "as it is": lambda critic: critic,
    "checkpoint, use_reentrant=False": checkpointed(False),
    "checkpoint, use_reentrant=True": checkpointed(True),
    "a compiled part": compiled_part,
    "torch.compile": compiled,
    "functional_call": functional,
}
REENTRANT = r"use_reentrant=False|may have any backward|not known to be affine"
REFUSED = {
    **{("checkpoint, use_reentrant=True", method): REENTRANT for method in (*METHODS, "auto")},
    ("a compiled part", "double_backward"): "double backward",
}
"""What raises, and what the message says; all other cells are right."""


@pytest.mark.parametrize("derived", [False, True])
@pytest.mark.parametrize("method", [*METHODS, "auto"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_right_or_refused(setting, method, derived, seed, fresh_dynamo):
    torch.manual_seed(seed)
    for activation in (nn.ReLU, nn.SiLU):
        if method == ("directional" if activation is nn.ReLU else "one_pass"):
            continue
        critic = Critic(activation, derived).double()
        real, fake = torch.randn(2, 5, 6).double()
        exact = copy.deepcopy(critic)
        truth = _gradient(exact, exact, real, fake, "double_backward")
        run = SETTINGS[setting](critic)
        said = REFUSED.get((setting, method))
        if said is not None:
            with pytest.raises(
                (RuntimeError, fastgan.NotSmoothError, fastgan.NotAffineError, NoMethodError), match=said
            ):
                _gradient(run, critic, real, fake, method)
        else:
            assert error(_gradient(run, critic, real, fake, method), truth) <= 1e-7


def _gradient(run, critic, real, fake, method) -> dict[str, Tensor]:
    critic.zero_grad()
    fastgan.critic_loss(run, real, fake, loss=plain, penalties=PENALTIES, method=method).backward()
    return {
        name.replace("_orig_mod.", ""): torch.zeros_like(p) if p.grad is None else p.grad
        for name, p in critic.named_parameters()
    }
