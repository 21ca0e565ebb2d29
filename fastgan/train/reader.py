"""The order in which a run reads its data: a function of the seed and the epoch."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from fastgan.tasks import Source
from fastgan.train.keys import key_of


class Reader:
    """Endless batches of one source, or of several side by side, each in an order of its own.

    Every epoch of a source is a permutation of its samples; an incomplete last batch is left out. The whole state is
    `position`, the number of batches read, so that a resumed run reads on where it stopped.

    A source's main tensor, `image`, takes the name of the source in the batch; its other ones (`label`) keep theirs
    where there is one source, and have the source's name before them (`a_label`) where there are several.

    Args:
        sources: by the name of the data that the task needs.
        batch_size: samples of each in a batch, at most as many as each has.
        seed: of the run.

    Raises:
        ValueError: a source has fewer samples than a batch.
    """

    def __init__(self, sources: Mapping[str, Source], batch_size: int, seed: int) -> None:
        for source in sources.values():
            if not 1 <= batch_size <= len(source):
                raise ValueError(
                    f"batch_size is {batch_size}, expected 1 to {len(source)}, the number of samples in {source.name}"
                )
        self.sources, self.batch_size, self.seed = dict(sources), batch_size, seed
        self.position = 0
        self._orders: dict[str, tuple[int, Tensor]] = {}

    def next(self) -> dict[str, Tensor]:
        """The next batch, on the CPU: tensors by name, batch first."""
        self.position += 1
        return self._read(self.position - 1)

    def epoch(self) -> Iterator[dict[str, Tensor]]:
        """As many batches as the shortest source has in an epoch, in the order of the data; `position` stays."""
        for index in range(min(len(source) for source in self.sources.values()) // self.batch_size):
            chosen = torch.arange(index * self.batch_size, (index + 1) * self.batch_size)
            yield self._named({name: (chosen, key_of(self.seed, name, "all", index)) for name in self.sources})

    def first(self, count: int) -> dict[str, Tensor]:
        """`count` samples of each source, or as many as there are, evenly spread: what pictures are of."""
        spread = {
            name: torch.arange(min(count, len(s))) * len(s) // min(count, len(s)) for name, s in self.sources.items()
        }
        return self._named({name: (chosen, key_of(self.seed, name, "first")) for name, chosen in spread.items()})

    def _read(self, position: int) -> dict[str, Tensor]:
        chosen = {}
        for name, source in self.sources.items():
            epoch, index = divmod(position, len(source) // self.batch_size)
            order = self._order(name, epoch)
            indices = order[index * self.batch_size : (index + 1) * self.batch_size]
            chosen[name] = indices, key_of(self.seed, name, "read", position)
        return self._named(chosen)

    def _order(self, name: str, epoch: int) -> Tensor:
        known = self._orders.get(name)
        if known is None or known[0] != epoch:
            random = torch.Generator().manual_seed(key_of(self.seed, name, "order", epoch))
            known = epoch, torch.randperm(len(self.sources[name]), generator=random)
            self._orders[name] = known
        return known[1]

    def _named(self, chosen: Mapping[str, tuple[Tensor, int]]) -> dict[str, Tensor]:
        found = {}
        for name, (indices, seed) in chosen.items():
            for field, values in self.sources[name].read(indices, seed).items():
                several = field if len(self.sources) == 1 else f"{name}_{field}"
                found[name if field == "image" else several] = values
        return found
