"""`CycleGAN`: translates between two sets of images without pairs (Zhu et al. 2017, arXiv:1703.10593)."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from fastgan import losses
from fastgan.errors import UserError
from fastgan.tasks.gan import read_loss
from fastgan.tasks.grid import image_grid
from fastgan.tasks.image_buffer import ImageBuffer
from fastgan.tasks.sampling import in_parts, place_of
from fastgan.tasks.task import Batch, Field, Now, Part, Plan, Source, Task

OTHER = {"a": "b", "b": "a"}
SHOWN = 8
"""Images of each set in a picture of the run."""


class CycleGAN(Task):
    """Two generators, G from a to b and F from b to a, against a critic of each set.

        min  adversarial(G) + adversarial(F)
             + cycle (|F(G(a)) - a| + |G(F(b)) - b|) + identity (|F(a) - a| + |G(b) - b|)

    with |.| the mean absolute difference.

    Args:
        to_b, to_a: G and F: images [B, C, H, W] in [-1, 1] -> the same shape.
        critic_a, critic_b: images -> logits of any shape.
        shape: (C, H, W) of the images of both sets.
        loss: an objective of logits; least squares in the paper, whose critics' halved loss is that of
            `fastgan.losses.least_squares`.
        cycle, identity: weights; the identity's is half of the cycle's in the paper where colours should stay, else 0.
        buffer: generated images of each set that are kept to be shown to the critic, at least a batch; 50 in the paper.

    Raises:
        UserError: the objective cannot be read, is not one of logits, or needs data to judge samples.
    """

    def __init__(
        self, to_b: nn.Module, to_a: nn.Module, critic_a: nn.Module, critic_b: nn.Module, shape: tuple[int, ...], *,
        loss: str | losses.Loss = "least_squares", cycle: float = 10.0, identity: float = 5.0, buffer: int = 50,
    ) -> None:  # fmt: skip
        super().__init__({"a": critic_a, "b": critic_b}, {"b": to_b, "a": to_a}, averaged=["b", "a"])
        self.loss, self.cycle, self.identity = read_loss(loss), cycle, identity
        if self.loss.output != "logit" or self.loss.needs_real:
            raise UserError(f"task.loss is {self.loss.name!r}, expected an objective of each sample's logit alone")
        self.needs = {"a": Field(shape), "b": Field(shape)}
        self.buffers_of = nn.ModuleDict({name: ImageBuffer(buffer, shape) for name in OTHER})

    def check(self, plan: Plan) -> None:
        size = self._buffer("a").size
        if size < plan.batch_size:
            raise UserError(f"task.buffer is {size}, expected at least run.batch_size, which is {plan.batch_size}")

    def draw(self, data: dict[str, Tensor], random: torch.Generator) -> dict[str, Tensor]:
        drawn = {}
        for name in OTHER:
            drawn[f"place_{name}"], drawn[f"swap_{name}"] = self._buffer(name).draw(len(data[name]), random)
        return drawn

    def critic_parts(self, batch: Batch, now: Now) -> Iterator[Part]:
        for name, critic in self.critics.items():
            fake = self.generators[name](batch.tensors[OTHER[name]])
            choice = [batch.tensors[f"{drawn}_{name}"] for drawn in ("place", "swap")]
            value = self.loss.critic(critic(batch.tensors[name]), critic(self._buffer(name).shown(fake, *choice)))
            kept = {f"fake_{name}": fake.detach(), f"place_{name}": choice[0], f"swap_{name}": choice[1]}
            yield Part(value, {f"critic_{name}": value.detach()}, kept)

    def generator_parts(self, batch: Batch, now: Now) -> Iterator[Part]:
        for name, back in OTHER.items():
            real = batch.tensors[back]
            fake = self.generators[name](real)
            adversarial = self.loss.generator(self.critics[name](fake), None)
            cycle = (self.generators[back](fake) - real).abs().mean()
            log = {f"generator_{name}": adversarial.detach(), f"cycle_{back}": cycle.detach()}
            yield Part(adversarial + self.cycle * cycle, log)
            if self.identity:
                real = batch.tensors[name]
                same = (self.generators[name](real) - real).abs().mean()
                yield Part(self.identity * same, {f"identity_{name}": same.detach()})

    def after_step(self, log: Mapping[str, Tensor], kept: Mapping[str, Tensor], now: Now) -> None:
        for name in OTHER:
            self._buffer(name).keep(*(kept[f"{part}_{name}"] for part in ("fake", "place", "swap")))

    def _buffer(self, name: str) -> ImageBuffer:
        buffer = self.buffers_of[name]
        assert isinstance(buffer, ImageBuffer)
        return buffer

    def translated(self, images: Tensor, to: str) -> Tensor:
        """Images of one set as the averaged generator makes them of the other, `to`: float32 on the CPU."""
        network = self.averages[to]
        device, dtype = place_of(network)
        return in_parts(network, device, images.to(dtype))

    def sample(self, n: int, seed: int = 0, given: Mapping[str, Tensor] | None = None) -> Tensor:  # type: ignore[override]
        """The first n of the given images, translated to the other set.

        Args:
            n: how many.
            seed: not used: nothing is drawn.
            given: `a` or `b`: images [N, C, H, W] in [-1, 1].

        Raises:
            UserError: not one of the two is given.
        """
        if given is None or len(given) != 1 or not given.keys() <= OTHER.keys():
            raise UserError("a CycleGAN translates images, expected those of set a or of set b")
        ((name, images),) = given.items()
        return self.translated(images[:n], OTHER[name])

    def picture(self, given: Mapping[str, Tensor], seed: int = 0) -> Tensor:
        """Six rows: images of a, translated, and back; images of b, translated, and back."""
        rows = []
        for name, other in OTHER.items():
            images = given[name][:SHOWN].float()
            there = self.translated(images, other)
            rows += [images, there, self.translated(there, name)]
        return image_grid(torch.cat(rows), columns=len(rows[0]))

    def measure(self, sources: Mapping[str, Source], n: int, seed: int = 0) -> dict[str, float]:
        """Mean absolute errors of n images of each set, in [-1, 1]: there and back, and translated to their own set."""
        found = {}
        for name, other in OTHER.items():
            source = sources[name]
            chosen = torch.randperm(len(source), generator=torch.Generator().manual_seed(seed))[:n]
            images = source.read(chosen, seed)["image"].float()
            back = self.translated(self.translated(images, other), name)
            found[f"cycle_error_{name}"] = (back - images).abs().mean().item()
            found[f"identity_error_{name}"] = (self.translated(images, name) - images).abs().mean().item()
        return found
