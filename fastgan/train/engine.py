"""Computes a task's gradients for a game: devices, precision, chunks and randomness are its business alone."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from fastgan.errors import UserError, shown
from fastgan.games.player import frozen
from fastgan.losses import Players
from fastgan.tasks import Batch, Now, Part, Side, Task
from fastgan.tasks.task import together
from fastgan.train.keys import key_of
from fastgan.train.reader import Reader

Parts = Callable[[Side, Batch, Now], Iterator[Part]]
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""What the losses are computed in, by name; bfloat16 by autocast, with parameters and gradients in float32."""


class TaskEngine:
    """The engine of a run: what a `fastgan.games.Game` asks for gradients of a task.

    A batch is cut into equal chunks, whose gradients are averaged, and so are their logs. Every chunk starts from the
    same layer buffers (averages of batch norm, vectors of spectral norm), which then move by the mean of what the
    chunks moved them by.

    Args:
        task: what is trained.
        reader: where data come from.
        seed: of the run: latents, dropout and penalties draw from functions of it, the step and the call.
        device: where the task is.
        chunks: into which a batch is cut, a divisor of its size.
        precision: a key of `PRECISIONS`.
        clip: largest norm of a side's gradient, to which it is scaled down; 0 for none.
        parts: the terms of a side's loss; by default those of the task.

    Attributes:
        now: the present moment, as the parts see it; whoever steps sets it by `begin`.
        log, kept: what the first evaluation of each side in this step logged and kept.
    """

    def __init__(
        self, task: Task, reader: Reader, seed: int, device: torch.device, *,
        chunks: int = 1, precision: str = "float32", clip: float = 0.0, parts: Parts | None = None,
    ) -> None:  # fmt: skip
        self.task, self.reader, self.seed, self.device = task, reader, seed, device
        self.chunks, self.precision, self.clip = chunks, PRECISIONS[precision], clip
        self.parts = parts or task.parts
        self.begin(Now())

    def begin(self, now: Now) -> None:
        """Starts a step."""
        self.now = now
        self.log: dict[str, Tensor] = {}
        self.kept: dict[str, Tensor] = {}
        self._calls = 0
        self._evaluated: set[Side] = set()
        self._data: dict[int, dict[str, Tensor]] = {}

    # --- what a game asks ---

    def batch(self) -> Batch:
        """New data and new draws."""
        return self._kept(self.reader.next())

    def again(self, batch: Batch) -> Batch:
        """The same data and new draws."""
        return self._kept(self._data[batch.key])

    def epoch(self) -> Iterable[Batch]:
        """All data once, in batches of the usual size, whose logs do not count; the reader stays where it is."""
        return map(self._drawn, self.reader.epoch())

    def gradient(self, side: Side, batch: Batch) -> Tensor:
        """Assigns `.grad` of a side's parameters, the opponent frozen; returns the loss, a detached scalar."""
        own = [p for p in self.task.side(side).parameters() if p.requires_grad]
        for p in own:
            p.grad = None
        opponent = self.task.side("generator" if side == "critic" else "critic")
        total = torch.zeros([], device=self.device)
        told: list[Part] = []
        with torch.enable_grad(), frozen(opponent.parameters()):
            for chunk in self._chunks_of(batch):
                log: dict[str, Tensor] = {}
                keep: dict[str, Tensor] = {}
                for part in self._evaluated_parts(side, chunk):
                    # The graph of a part is freed here, before the next one is built.
                    (part.loss if self.chunks == 1 else part.loss / self.chunks).backward()
                    total = total + part.loss.detach() / self.chunks
                    log.update(part.log)
                    keep.update(part.keep)
                told.append(Part(total, log, keep))
        if self.clip:
            torch.nn.utils.clip_grad_norm_(own, self.clip)
        self._remember(side, batch, total, told)
        return total

    def losses(self, batch: Batch) -> Players:
        """Both sides' losses with their graphs, in float32 and of the whole batch, for games of second order."""
        now = self.now._replace(twice=True)
        found = {}
        for side in ("critic", "generator"):
            seed_layers(batch.key, self.device)
            whole = together(checked(side, part) for part in self.parts(side, batch, now))
            found[side] = whole.loss
            self._remember(side, batch, whole.loss.detach(), [whole])
        return Players(found["critic"], found["generator"])

    # --- how ---

    def _kept(self, data: dict[str, Tensor]) -> Batch:
        """A batch of the step's own, whose data may be asked for again."""
        batch = self._drawn(data)
        self._data[batch.key] = data
        return batch

    def _drawn(self, data: dict[str, Tensor]) -> Batch:
        call, self._calls = self._calls, self._calls + 1
        random = torch.Generator().manual_seed(key_of(self.seed, "draw", self.now.step, call))
        tensors = {**data, **self.task.draw(data, random)}
        key = key_of(self.seed, "layers", self.now.step, call)
        return Batch({name: value.to(self.device, non_blocking=True) for name, value in tensors.items()}, key)

    def _chunks_of(self, batch: Batch) -> Iterator[Batch]:
        """The parts of a batch, each evaluated from the same buffers, which are merged after the last."""
        if self.chunks == 1:
            yield batch
            return
        buffers = list(self.task.buffers())
        before = [buffer.clone() for buffer in buffers]
        moved = [torch.zeros_like(buffer, dtype=torch.float64) for buffer in buffers]
        pieces = {name: value.chunk(self.chunks) for name, value in batch.tensors.items()}
        for index in range(self.chunks):
            yield Batch({name: piece[index] for name, piece in pieces.items()}, key_of(batch.key, index))
            for buffer, start, sum_of in zip(buffers, before, moved, strict=True):
                # Infinite where they stay so, in a mask, they have not moved.
                sum_of += torch.where(buffer == start, 0.0, buffer.double() - start.double())
                buffer.copy_(start)
        for buffer, start, sum_of in zip(buffers, before, moved, strict=True):
            buffer.copy_(start.double() + sum_of / self.chunks)

    def _evaluated_parts(self, side: Side, batch: Batch) -> Iterator[Part]:
        """The parts of a side's loss, each computed under autocast where the precision says so."""
        seed_layers(batch.key, self.device)
        parts = iter(self.parts(side, batch, self.now))
        while True:
            with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
                part = next(parts, None)
            if part is None:
                return
            yield checked(side, part)

    def _remember(self, side: Side, batch: Batch, total: Tensor, told: list[Part]) -> None:
        """Of a side's evaluations on the step's own data the first one counts: its parameters are where the step began.

        Args:
            side, batch: what was evaluated.
            total: the loss.
            told: what each chunk logged and kept.
        """
        if side in self._evaluated or batch.key not in self._data:
            return
        self._evaluated.add(side)
        self.log.update({name: torch.stack([part.log[name] for part in told]).mean(0) for name in told[0].log})
        self.log.setdefault(side, total)
        self.kept.update({name: torch.cat([part.keep[name] for part in told]) for name in told[0].keep})


def checked(side: Side, part: Part) -> Part:
    """A part as it is.

    Raises:
        UserError: its loss is no scalar with a graph, or something in its log is no detached scalar or is called step.
    """
    if not isinstance(part, Part):
        raise UserError(f"{side}_parts yields {type(part).__name__}, expected fastgan.tasks.Part(loss)")
    if part.loss.ndim or not part.loss.requires_grad:
        shape = list(part.loss.shape)
        raise UserError(f"{side}_parts yields a loss of shape {shape}, expected a scalar that requires gradients")
    for name, value in part.log.items():
        if name == "step" or not isinstance(value, Tensor) or value.ndim or value.requires_grad:
            raise UserError(
                f"{side}_parts logs {name!r}: {shown(value)}, expected detached scalar tensors under names other than "
                "step"
            )
    return part


def seed_layers(key: int, device: torch.device) -> None:
    """Seeds PyTorch's global generators, from which layers and penalties draw."""
    torch.default_generator.manual_seed(key)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(key)


@contextmanager
def own_randomness(device: torch.device) -> Iterator[None]:
    """A context that gives the caller's state of PyTorch's global generators back afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def numbers_on_cpu(values: Mapping[str, float]) -> dict[str, Tensor]:
    """Numbers as 0-d tensors; on the CPU, where reading one waits for nothing."""
    return {name: torch.tensor(value) for name, value in values.items()}
