"""`Task`: what is trained. Networks on two sides, what each side minimises, how one samples, shows and measures.

A task knows nothing of devices, precision, chunks or optimisers; `fastgan.train` knows nothing of what is minimised.
Between them go the values below.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

Side = Literal["critic", "generator"]
"""The two sides of a game. Encoders stand with the generators, classifiers of fakes with the critics."""


class Batch(NamedTuple):
    """Everything that an evaluation of the losses depends on besides the networks.

    Attributes:
        tensors: data and what `Task.draw` drew, batch first, under the same names in every step.
        key: seeds what networks and penalties draw inside: dropout, noise, points between data and samples.
    """

    tensors: dict[str, Tensor]
    key: int


class Part(NamedTuple):
    """A term of a side's loss. It is differentiated, and its graph freed, before the next one is asked for.

    Attributes:
        loss: a scalar, its weight and interval included.
        log: detached scalars by their names in the log.
        keep: detached tensors, batch first, that `Task.after_step` is handed.
    """

    loss: Tensor
    log: Mapping[str, Tensor] = {}
    keep: Mapping[str, Tensor] = {}


def together(parts: Iterable[Part]) -> Part:
    """Terms as one, in one graph, with all that they log and keep."""
    found = list(parts)
    log = {name: value for part in found for name, value in part.log.items()}
    keep = {name: value for part in found for name, value in part.keep.items()}
    return Part(torch.stack([part.loss for part in found]).sum(), log, keep)


class Now(NamedTuple):
    """The present moment of a run.

    Attributes:
        step: steps taken so far.
        images: samples of data read so far, at `batch_size` for each step.
        numbers: those that follow a schedule, as 0-d tensors on the device.
        due: the lazy parts of this step.
        twice: whether the losses are differentiated twice with respect to parameters.
    """

    step: int = 0
    images: int = 0
    numbers: Mapping[str, Tensor] = {}
    due: frozenset[str] = frozenset()
    twice: bool = False


class Plan(NamedTuple):
    """How a task is about to be trained, as far as it may mind.

    Attributes:
        batch_size: samples of the data in an update.
        chunk_size: samples that are evaluated together.
        second_order: whether the game differentiates both sides' losses twice, with respect to parameters.
        unrolled: whether it differentiates the critics' loss twice, and sees it at other parameters.
    """

    batch_size: int
    chunk_size: int
    second_order: bool = False
    unrolled: bool = False


class Field(NamedTuple):
    """What a task expects of one named tensor of its data.

    Attributes:
        shape: of one sample; None for any.
        low, high: the range of its values.
    """

    shape: tuple[int, ...] | None = None
    low: float = -1.0
    high: float = 1.0


class Source(Protocol):
    """Data that can be read in any order.

    Attributes:
        name: in messages.
        classes: names of the classes, in the order of the labels; empty without.
        class_counts: how many samples each has, int64.
        digest: of the files that it was read from; empty for what is always the same.
    """

    @property
    def name(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def class_counts(self) -> Tensor: ...
    @property
    def digest(self) -> str: ...
    def __len__(self) -> int: ...

    def read(self, indices: Tensor, seed: int) -> dict[str, Tensor]:
        """Samples by their numbers, int64 [B]: tensors by name, batch first; a function of the arguments alone."""
        ...

    def summary(self) -> str:
        """A line on what it holds, and one for each remark."""
        ...


class Task(nn.Module, ABC):
    """What is trained. Its buffers are its state beside the networks: they move in `after_step` alone.

    Args:
        critics, generators: networks by name; no parameter is on both sides. Each side has one optimiser.
        averaged: names of generators of which an exponential moving average is kept.

    Attributes:
        critics, generators: the networks, in an nn.ModuleDict each.
        averages: the averaged copies, in evaluation mode, without gradients; training moves them.
        lazy: part -> every how many steps it is due, where it is used. It weighs as many times as much then.
        needs: data by name -> its shape and range.
        numbers: numbers of the task that may follow a schedule, by their names.
        images_from_noise: whether `sample` makes images of latents alone, of which `fastgan sample` draws grids, tours
            and crossings; of any other task it writes `picture`.
        remark: something to tell whoever watches, after the first step; empty for nothing.
    """

    lazy: Mapping[str, int] = {}
    needs: Mapping[str, Field] = {}
    numbers: Mapping[str, Any] = {}
    images_from_noise = False
    remark = ""

    def __init__(
        self, critics: Mapping[str, nn.Module], generators: Mapping[str, nn.Module], averaged: Iterable[str] = ()
    ) -> None:
        super().__init__()
        self.critics, self.generators = nn.ModuleDict(critics), nn.ModuleDict(generators)
        self.averages = nn.ModuleDict({name: copy.deepcopy(generators[name]) for name in averaged})
        self.averages.eval().requires_grad_(False)

    # --- what a task must say ---

    @abstractmethod
    def draw(self, data: dict[str, Tensor], random: torch.Generator) -> dict[str, Tensor]:
        """What a batch needs besides data (latents, labels, choices), drawn on the CPU; a function of these two alone.

        Args:
            data: of the batch, by name, batch first.
            random: on the CPU.
        """

    @abstractmethod
    def critic_parts(self, batch: Batch, now: Now) -> Iterator[Part]:
        """The terms of what the critics minimise. The generators' parameters are frozen meanwhile."""

    @abstractmethod
    def generator_parts(self, batch: Batch, now: Now) -> Iterator[Part]:
        """The terms of what the generators minimise. The critics' parameters are frozen meanwhile."""

    @abstractmethod
    def sample(self, n: int, seed: int = 0, given: Mapping[str, Tensor] | None = None, **options: Any) -> Tensor:
        """n samples of the averaged networks, on the CPU; the same for the same arguments.

        Args:
            n: how many.
            seed: of everything drawn.
            given: what is translated, reconstructed or encoded; None where samples come from noise.
        """

    # --- what a task may say ---

    def picture(self, given: Mapping[str, Tensor], seed: int = 0) -> Tensor:
        """One picture of what has been learnt: uint8 [1 or 3, height, width]; by default 64 samples, images in [-1, 1].

        Args:
            given: up to 64 samples of the data, always the same.
            seed: of what is drawn.
        """
        from fastgan.tasks.grid import image_grid  # Pillow is of an extra

        return image_grid(self.sample(64, seed))

    def check(self, plan: Plan) -> None:
        """Raises UserError, naming section.key, for parts that do not go together with each other or the plan."""

    def prepare(self, sources: Mapping[str, Source], random: torch.Generator) -> None:
        """Looks at the data once, before the first step, for a reference batch; a function of these alone."""

    def constrain(self, side: Side) -> None:
        """Puts a side's parameters back where they must be, after each of its updates: weight clipping."""

    def after_step(self, log: Mapping[str, Tensor], kept: Mapping[str, Tensor], now: Now) -> None:
        """Moves the task's own state after both sides have moved.

        Args:
            log: of all parts of the step, averaged over chunks.
            kept: of all parts of the step.
        """

    def measure(self, sources: Mapping[str, Source], n: int, seed: int = 0) -> dict[str, float]:
        """Figures of n samples beside the data, by name."""
        return {}

    # --- what follows ---

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.parameters()).device

    def side(self, name: Side) -> nn.ModuleDict:
        """The networks of a side."""
        return self.critics if name == "critic" else self.generators

    def parts(self, side: Side, batch: Batch, now: Now) -> Iterator[Part]:
        """The terms of what a side minimises."""
        return self.critic_parts(batch, now) if side == "critic" else self.generator_parts(batch, now)

    def forward(self, side: Side, batch: Batch, now: Now) -> Part:
        """What a side minimises, as one term; for whoever evaluates the task at other parameters."""
        return together(self.parts(side, batch, now))

    def train(self, mode: bool = True) -> "Task":
        """As nn.Module's, but for the averages, which stay in evaluation mode."""
        super().train(mode)
        self.averages.eval()
        return self
