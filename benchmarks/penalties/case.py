"""A case: a critic, an objective and a batch, on which a step is taken."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.penalties.critics import Kind, initialise
from fastgan.penalties import R1, R2, WGANGP, Penalty


def _nonsaturating(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def _nonsaturating_generator(fake: Tensor) -> Tensor:
    return F.softplus(-fake).mean()


def _wasserstein(real: Tensor, fake: Tensor) -> Tensor:
    return fake.mean() - real.mean()


def _wasserstein_generator(fake: Tensor) -> Tensor:
    return -fake.mean()


@dataclass(frozen=True)
class Objective:
    """A loss, written out here and by its name in fastgan, with its penalties."""

    name: str
    loss: Callable[[Tensor, Tensor], Tensor]
    generator_loss: Callable[[Tensor], Tensor]
    fastgan_loss: str
    penalties: tuple[Penalty, ...]


_LOGISTIC = (_nonsaturating, _nonsaturating_generator, "nonsaturating")
MAIN = "R1+R2"
OBJECTIVES: dict[str, Objective] = {
    objective.name: objective
    for objective in (
        Objective(MAIN, *_LOGISTIC, (R1(10.0), R2(10.0))),
        Objective("R1", *_LOGISTIC, (R1(10.0),)),
        Objective("WGAN-GP", _wasserstein, _wasserstein_generator, "wasserstein", (WGANGP(10.0),)),
    )
}


@dataclass
class Subject:
    """A critic and its batches in memory.

    In bfloat16 and float16 the parameters stay in float32 and the step runs under autocast, as in training.
    """

    critic: nn.Module
    real: Tensor
    fake: Tensor
    objective: Objective
    autocast: torch.dtype | None = None
    affine: bool = True
    buffers: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.buffers = {name: buffer.clone() for name, buffer in self.critic.named_buffers()}

    def precision(self) -> AbstractContextManager[Any]:
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(self.real.device.type, dtype=self.autocast)

    @cached_property
    def compiled(self) -> Callable[[Tensor], Tensor]:
        return torch.compile(self.critic, dynamic=False)

    def reset(self) -> None:
        """Restores the initial state: no gradients, the buffers of the beginning, the same random numbers ahead."""
        self.clear()
        with torch.no_grad():
            for name, buffer in self.critic.named_buffers():
                buffer.copy_(self.buffers[name])
        torch.manual_seed(0)

    def clear(self) -> None:
        for parameter in self.critic.parameters():
            parameter.grad = None
        self.fake.grad = None

    def double(self) -> "Subject":
        """A copy with the same numbers, in float64."""
        self.reset()
        fake = self.fake.detach().double().requires_grad_()
        return Subject(copy.deepcopy(self.critic).double(), self.real.double(), fake, self.objective)


@dataclass(frozen=True)
class Case:
    """The recipe of a subject: plain values, so that another process can make the same one."""

    kind: Kind
    objective: Objective
    device: torch.device
    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    given_batch: int | None = None

    @property
    def batch(self) -> int:
        if self.given_batch is not None:
            return self.given_batch
        return self.kind.gpu_batch if self.device.type == "cuda" else self.kind.batch

    def subject(self, batch: int | None = None) -> Subject:
        """Fakes are a leaf, as if a generator's output ended there: only the critic's side is timed."""
        torch.manual_seed(1)
        critic = self.kind.build()
        shape = (batch or self.batch, *self.kind.shape)
        real, fake = torch.randn(shape), 0.7 * torch.randn(shape) + 0.2
        initialise(critic, real[:8], self.kind.gradient_norm)
        half = self.dtype in (torch.bfloat16, torch.float16)
        placed: dict[str, Any] = {"device": self.device, "dtype": torch.float32 if half else self.dtype}
        if self.channels_last and len(shape) == 4:
            placed["memory_format"] = torch.channels_last
        return Subject(
            critic.to(**placed),
            real.to(**placed),
            fake.to(**placed).requires_grad_(),
            self.objective,
            autocast=self.dtype if half else None,
            affine=self.kind.affine,
        )
