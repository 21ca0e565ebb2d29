"""`Run`: a task, its data and its game, one step at a time."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from fastgan.errors import UserError
from fastgan.losses import Players
from fastgan.tasks import Now, Plan, Side, Source, Task
from fastgan.train.average import move_averages
from fastgan.train.devices import choose_device
from fastgan.train.engine import TaskEngine, numbers_on_cpu, own_randomness
from fastgan.train.keys import key_of
from fastgan.train.reader import Reader
from fastgan.train.schedules import value_at
from fastgan.train.settings import GameSettings, RunSettings
from fastgan.train.state import load_tensors, not_finite, tensors_of
from fastgan.train.unrolled import unrolled_parts


class Step(NamedTuple):
    """What a step came to, on the device, so that nothing waits for it.

    Attributes:
        number: of the step, from 1 on.
        losses: of both sides where the step began, all their terms included.
        log: scalars by name, those of lazy parts as they were last.
    """

    number: int
    losses: Players
    log: dict[str, Tensor]


class Run(Iterator[Step]):
    """A task in training. Iterating over it takes the steps, up to `settings.steps`; it writes nothing.

    PyTorch's global random generators are left as they were found.

    Args:
        task: what is trained; it is moved to the device.
        sources: data by the names that the task needs.
        game: how the players move.
        settings: how long, on what.

    Attributes:
        step: steps taken.
        log: scalars of the last step by name, on the device, those of lazy parts as they were last.
        infinite: buffers that are not finite from the start, as a mask of -inf.

    Raises:
        UserError: something does not go together; the message names section.key.
    """

    def __init__(self, task: Task, sources: Mapping[str, Source], game: GameSettings, settings: RunSettings) -> None:
        self.device = choose_device(settings.device, "run.device")
        self.task, self.sources, self.settings, self.game_settings = task, sources, settings, game
        check(task, sources, game, settings)
        task.prepare(sources, torch.Generator().manual_seed(key_of(settings.seed, "prepare")))
        task.to(self.device).train()
        self.infinite = frozenset(not_finite({f"task.{name}": value for name, value in task.named_buffers()}))
        self.game = game.build(task.critics, task.generators)
        for player in self.game.players:
            side: Side = player.who
            player.optimizer.register_step_post_hook(lambda *_, side=side: task.constrain(side))
        parts = unrolled_parts(task, self.game, game.unroll) if game.unroll else None
        self.engine = TaskEngine(
            task, Reader(sources, settings.batch_size, settings.seed), settings.seed, self.device,
            chunks=settings.chunks, precision=settings.precision, clip=game.clip, parts=parts,
        )  # fmt: skip
        self.step = 0
        self.log: dict[str, Tensor] = {}

    def __next__(self) -> Step:
        if self.step >= self.settings.steps:
            raise StopIteration
        task, engine, now = self.task, self.engine, self.now()
        self.game_settings.move(self.game, self.step)
        engine.begin(now)
        with own_randomness(self.device):
            losses = self.game.step(engine)
            for player in self.game.players:  # a game may move them past their optimisers
                task.constrain(player.who)
            task.after_step(engine.log, engine.kept, now)
        self.step += 1
        move_averages(task, value_at(self.settings.ema, now.step), self.step)
        # Always in one order, also after a checkpoint, which has no order.
        earlier = {name: self.log[name] for name in sorted(self.log.keys() - engine.log.keys())}
        self.log = {**engine.log, **earlier}
        return Step(self.step, losses, self.log)

    def now(self) -> Now:
        """The moment of the next step."""
        step, task = self.step, self.task
        numbers = {name: value_at(number, step) for name, number in task.numbers.items()}
        due = frozenset(part for part, every in task.lazy.items() if step % every == 0)
        return Now(step, step * self.settings.batch_size, numbers_on_cpu(numbers), due)

    def picture(self) -> Tensor:
        """What the task shows of itself, always of the same data and latents."""
        self.task.eval()
        try:
            with torch.no_grad(), own_randomness(self.device):
                return self.task.picture(self.engine.reader.first(PICTURED), self.settings.seed)
        finally:
            self.task.train()

    def tensors(self) -> dict[str, Tensor]:
        """The whole state by name; the values are not copied."""
        here = {"step": torch.tensor(self.step), "position": torch.tensor(self.engine.reader.position)}
        lazily = {f"log.{name}": value for name, value in self.log.items()}
        return {**here, **lazily, **tensors_of(self.task, self.game)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Goes on from `tensors`: on the CPU bit for bit, with the same number of threads and version of PyTorch.

        Raises:
            KeyError, RuntimeError, ValueError: they are of another task or game.
        """
        load_tensors(tensors, self.task, self.game)
        self.step, self.engine.reader.position = int(tensors["step"]), int(tensors["position"])
        self.log = {name[4:]: value.to(self.device) for name, value in tensors.items() if name.startswith("log.")}


PICTURED = 64
"""Samples of the data that a picture may show."""


def check(task: Task, sources: Mapping[str, Source], game: GameSettings, settings: RunSettings) -> None:
    """Raises UserError for settings that do not go with each other, the data or the task."""
    for source in sources.values():
        if settings.batch_size > len(source):
            raise UserError(
                f"run.batch_size is {settings.batch_size}, expected 1 to {len(source)}, the number of samples in "
                f"{source.name}"
            )
    if settings.batch_size % settings.chunks:
        raise UserError(
            f"run.chunks is {settings.chunks}, expected a divisor of run.batch_size, which is {settings.batch_size}"
        )
    trial = game.trial()
    if trial.second_order:
        reason = f"{game.kind} differentiates whole losses twice"
        for name, value, expected in (
            ("run.chunks", settings.chunks, 1),
            ("run.precision", settings.precision, "float32"),
            ("game.unroll", game.unroll, 0),
            ("game.clip", game.clip, 0.0),
        ):
            if value != expected:
                raise UserError(f"{name} is {value!r}, expected {expected!r}: {reason}")
    if trial.keeps_mean:
        for part, every in task.lazy.items():
            if every > 1:
                raise UserError(
                    f"game.kind is {game.kind!r}, which keeps one step's mean gradient for an epoch; expected every "
                    f"part in every step, and task has {part.replace('_', ' ')} every {every}"
                )
    task.check(Plan(settings.batch_size, settings.batch_size // settings.chunks, trial.second_order, game.unroll > 0))
