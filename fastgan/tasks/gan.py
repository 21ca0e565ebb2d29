"""`GAN`: one generator against one critic (Goodfellow et al. 2014, arXiv:1406.2661, algorithm 1)."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fastgan import losses
from fastgan.affine import NotAffineError
from fastgan.errors import UserError, one_line
from fastgan.models.critic_norms import ReferencedCritic
from fastgan.nn import InstanceNoise, PackedCritic, statistics_of
from fastgan.penalties import NotSmoothError, Penalty, critic_loss, differentiable_critic_loss
from fastgan.tasks.class_names import labels_of
from fastgan.tasks.conditioning import UNCONDITIONAL, Conditioning
from fastgan.tasks.grid import image_grid
from fastgan.tasks.labels import Labels, asked_for, draw_labels, given
from fastgan.tasks.lazily import NEVER, Lazily
from fastgan.tasks.sampling import draw_latents, in_parts, place_of
from fastgan.tasks.task import Batch, Field, Now, Part, Plan, Side, Source, Task
from fastgan.terms import clip_weights_, orthogonal, path_length

GRID, COLUMNS = 64, 16
"""Samples in a picture of the run, and most classes in one."""


class GAN(Task):
    """A generator that makes samples of latents, and a critic that tells them from data.

        fit(GAN(generator, critic, loss="relativistic_pairing", penalties=(R1(1.0), R2(1.0)), latent_dim=64),
            data="photos/", out="runs/mine", steps=10_000)

    Args:
        generator: float32 [B, latent_dim], and labels, int64 [B], where `conditioning` tells it -> samples, images in
            [-1, 1] for one. It is called once for their shape.
        critic: samples, and labels likewise -> what the objective is of: logits [B, 1], for most.
        loss: an objective of `fastgan.losses`, or what `fastgan.losses.parse` reads.
        penalties: of the critic's gradient.
        latent_dim: numbers in a latent vector; by default the generator's attribute of this name.
        penalty_every: steps between two with the penalties, which then weigh as many times as much.
        penalty_method: how their gradient is computed, as `fastgan.critic_loss` takes it.
        penalty_weight: factor of the penalties; may be a `fastgan.train.Schedule`.
        conditioning: how the classes of the data are used.
        classes: the names of the classes, in the order of the labels, with the samples that the data have of each; for
            a task that uses them.
        path_length: weight of StyleGAN2's path-length regularisation, every so many steps, for generators with styles.
        orthogonal: strength of BigGAN's orthogonal regularisation of the generator's weights; 0 for none.
        clip_weights: largest size of the critic's weights; 0 for no clipping.
        instance_noise: standard deviation of the critic's `InstanceNoise` layers; may be a Schedule. None leaves it to
            them.

    Raises:
        UserError: the objective cannot be read, or `latent_dim` is not known.
    """

    images_from_noise = True
    path_length_mean: Tensor

    def __init__(
        self, generator: nn.Module, critic: nn.Module, loss: str | losses.Loss = "nonsaturating",
        penalties: Sequence[Penalty] = (), latent_dim: int | None = None, *,
        penalty_every: int = 1, penalty_method: Any = "auto", penalty_weight: Any = 1.0,
        conditioning: Conditioning = UNCONDITIONAL, classes: Mapping[str, int] | None = None,
        path_length: Lazily = NEVER, orthogonal: float = 0.0, clip_weights: float = 0.0, instance_noise: Any = None,
    ) -> None:  # fmt: skip
        super().__init__({"critic": critic}, {"generator": generator}, averaged=["generator"])
        self.loss = deepcopy(read_loss(loss))
        self.latent_dim = _latent_dim(generator, latent_dim)
        self.penalties, self.penalty_method, self.conditioning = tuple(penalties), penalty_method, conditioning
        self.path_length, self.orthogonal, self.clip_weights = path_length, orthogonal, clip_weights
        self.lazy = {"penalties": penalty_every} if penalties else {}
        if path_length.weight:
            self.lazy["path_length"] = path_length.every
        self.numbers = {"penalty_weight": penalty_weight}
        if instance_noise is not None:
            self.numbers["instance_noise"] = instance_noise
        for name, value in self.loss.state.items():
            self.register_buffer(f"loss_{name}", value.clone())
        self.register_buffer("path_length_mean", torch.zeros([], dtype=torch.float32))
        self.classes = dict(classes or {})
        if conditioning.name and len(self.classes) < 2:
            raise UserError(f"task.classes are {self.classes}, expected two at least for {conditioning.name}")

    # --- data ---

    @property
    def needs(self) -> Mapping[str, Field]:  # type: ignore[override]
        """Samples of the shape that the generator makes."""
        return {"image": Field(tuple(self.sample(1).shape[1:]))}

    def check(self, plan: Plan) -> None:
        of_critic, of_generator = self.penalties or self.clip_weights, self.path_length.weight
        m = next((layer.m for layer in self.critics.modules() if isinstance(layer, PackedCritic)), 1)
        batch = f"run.batch_size is {plan.batch_size}"
        if plan.chunk_size != plan.batch_size:
            batch += f", in chunks of {plan.chunk_size}"
        if plan.chunk_size % m:
            raise UserError(f"{batch}, expected a multiple of {m}, the samples in a pack")
        if plan.chunk_size < self.loss.least * m:
            what = "packs" if m > 1 else "samples"
            least = self.loss.least * m
            raise UserError(f"{batch}, expected at least {least}: {self.loss.name} compares {what} with each other")
        if of_critic and plan.unrolled:
            name = "task.penalty" if self.penalties else "task.clip_weights"
            raise UserError(
                f"game.unroll differentiates the critic's steps; expected no {name}, which would take third "
                "derivatives or is no part of them"
            )
        if of_generator and plan.second_order:
            raise UserError(
                f"task.path_length is {of_generator:g}, expected 0: the game differentiates the generator's loss "
                "twice, and path lengths are derivatives"
            )

    def prepare(self, sources: Mapping[str, Source], random: torch.Generator) -> None:
        data = sources["image"]
        if self.conditioning.name and list(data.classes) != list(self.classes):
            raise UserError(
                f"the classes of {data.name} are {list(data.classes)}, expected those that the task is of: "
                f"{list(self.classes)}"
            )
        for layer in self.critics.modules():
            if isinstance(layer, ReferencedCritic):
                chosen = data.read(torch.randperm(len(data), generator=random)[: layer.size], 0)
                layer.refer_to(chosen["image"], chosen.get("label"))

    def draw(self, data: dict[str, Tensor], random: torch.Generator) -> dict[str, Tensor]:
        images = data["image"]
        latents = partial(torch.randn, len(images), self.latent_dim, generator=random, dtype=images.dtype)
        drawn = {"latent": latents()}
        if self.conditioning.tells_generator:
            drawn["fake_label"] = draw_labels(self._counts(), len(images), random)
        if self.path_length.weight:
            drawn["path_latent"] = latents()
        return drawn

    # --- what the players minimise ---

    def critic_parts(self, batch: Batch, now: Now) -> Iterator[Part]:
        self._set_noise(now)
        critic, real, fake = self.critics["critic"], batch.tensors["image"], self._samples(batch)
        loss, told = self._objective(batch)
        penalties = self._due_penalties(now)
        if not penalties:
            of_real = critic(real, *given(told.real))
            with statistics_of("fake", critic):
                of_fake = critic(fake, *given(told.fake))
            value = loss.critic(of_real, of_fake)
            yield Part(value, {"critic": value.detach(), **self._outputs(of_real, of_fake), **self._noise(now)})
        elif now.twice:
            self.remark = "gradient of the penalties: double backward, as the game differentiates it once more"
            total = differentiable_critic_loss(critic, real, fake, loss, penalties, *told)
            yield self._penalised(total, now)
        else:
            try:
                total = critic_loss(
                    critic, real, fake, loss=loss, penalties=penalties, labels=told.real, fake_labels=told.fake,
                    method=self.penalty_method,
                )  # fmt: skip
            except (NotAffineError, NotSmoothError) as error:
                raise UserError(f"task.penalty_method is {self.penalty_method!r}: {one_line(error)}") from error
            self.remark = f"gradient of the penalties: {how(total)}"
            yield self._penalised(total, now)

    def generator_parts(self, batch: Batch, now: Now) -> Iterator[Part]:
        generator, critic = self.generators["generator"], self.critics["critic"]
        self._set_noise(now)
        if "path_length" in now.due:
            # First, so that its graph is gone before the other is built. Half a batch: arXiv:1912.04958, appendix B.
            z = batch.tensors["path_latent"]
            found = path_length(generator, z[: max(1, len(z) // 2)], self.path_length_mean)  # type: ignore[arg-type]
            value = self.path_length.weight * found.penalty
            log = {"penalty_path_length": value.detach(), "path_length_mean": found.mean}
            yield Part(self.lazy["path_length"] * value, log)
        loss, told = self._objective(batch)
        with statistics_of("fake", critic):
            of_fake = critic(self._samples(batch), *given(told.fake))
        of_real = critic(batch.tensors["image"], *given(told.real)) if loss.needs_real else None
        value = loss.generator(of_fake, of_real)
        yield Part(value, {"generator": value.detach()})
        if self.orthogonal:
            filters = orthogonal(generator, self.orthogonal, embeddings(generator))
            yield Part(filters, {"penalty_orthogonal": filters.detach()})

    def constrain(self, side: Side) -> None:
        if self.clip_weights and side == "critic":
            clip_weights_(self.critics["critic"], self.clip_weights)

    def after_step(self, log: Mapping[str, Tensor], kept: Mapping[str, Tensor], now: Now) -> None:
        if "path_length_mean" in log:
            self.path_length_mean.copy_(log["path_length_mean"])
        if self.loss.state:
            self._with_state().update(log["real_output"], log["fake_output"])
            for name, value in self.loss.state.items():
                getattr(self, f"loss_{name}").copy_(value)

    def _samples(self, batch: Batch) -> Tensor:
        labels = given(batch.tensors.get("fake_label"))
        return self.generators["generator"](batch.tensors["latent"], *labels)

    def _objective(self, batch: Batch) -> tuple[losses.Loss, Labels]:
        """What the players minimise on a batch, and the labels that the critic is called with."""
        real = None if not self.conditioning.name else batch.tensors["label"]
        labels = Labels(real, batch.tensors.get("fake_label"))
        return self.conditioning.with_labels(self._with_state(), labels)

    def _with_state(self) -> losses.Loss:
        """The objective with the state that this task's buffers hold."""
        for name in self.loss.state:
            self.loss.state[name] = getattr(self, f"loss_{name}").clone()
        return self.loss

    def _due_penalties(self, now: Now) -> list[Penalty]:
        if not self.penalties or "penalties" not in now.due:
            return []
        factor = self.lazy["penalties"] * now.numbers["penalty_weight"].item()
        return [penalty.times(factor) for penalty in self.penalties]

    def _penalised(self, total: Any, now: Now) -> Part:
        every = self.lazy["penalties"]
        log = {"critic": total.loss, **self._outputs(total.real_logits, total.fake_logits), **self._noise(now)}
        for name, value in total.penalties.items():
            log |= {f"penalty_{name}": value / every, f"gradient_norm_{name}": total.gradient_norms[name].mean()}
        return Part(total, log)

    def _outputs(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """What the objective's state follows."""
        return {"real_output": real.detach().mean(), "fake_output": fake.detach().mean()} if self.loss.state else {}

    def _set_noise(self, now: Now) -> None:
        for layer in self.critics.modules() if "instance_noise" in now.numbers else ():
            if isinstance(layer, InstanceNoise):
                layer.std.copy_(now.numbers["instance_noise"])

    def _noise(self, now: Now) -> dict[str, Tensor]:
        return {name: now.numbers[name] for name in ("instance_noise",) if name in now.numbers}

    # --- what has been learnt ---

    @property
    def network(self) -> nn.Module:
        """The averaged generator."""
        return self.averages["generator"]

    @property
    def styled(self) -> bool:
        """Whether the generator has styles, which can be truncated and mixed."""
        return hasattr(self.network, "synthesis")

    @property
    def told_classes(self) -> tuple[str, ...]:
        """The classes that samples can be asked for; empty for a generator that is not told."""
        return tuple(self.classes) if self.conditioning.tells_generator else ()

    def _counts(self) -> Tensor:
        return torch.tensor(list(self.classes.values()))

    def labels_of(self, names: Iterable[str]) -> list[int]:
        """The labels of classes by their names, or of several with commas between them.

        Raises:
            UserError: there is no such class, or the generator is unconditional.
        """
        return labels_of(names, self.told_classes)

    def labels(self, n: int, seed: int = 0) -> Tensor:
        """n labels, int64 [n] on the CPU, as frequent as those of the data; the same for the same seed.

        Raises:
            ValueError: the generator is unconditional.
        """
        if not self.told_classes:
            raise ValueError("labels: the generator is unconditional, expected one that is told classes")
        # Another stream than that of the latents, which the same seed draws.
        return draw_labels(self._counts(), n, torch.Generator().manual_seed(seed ^ 0x5EED1AB))

    def sample(  # type: ignore[override]
        self, n: int, seed: int = 0, given: Mapping[str, Tensor] | None = None, *,
        psi: float = 1.0, labels: Tensor | int | None = None,
    ) -> Tensor:  # fmt: skip
        """n samples, float32 [n, ...] on the CPU, images in [-1, 1]; the same for the same seed.

        Args:
            n: how many.
            seed: of the latents.
            given: not used: samples come from noise.
            psi: draws the latents of a StyleGAN2 towards their mean (truncation); 1 for any other network.
            labels: the class of each, int64 [n], or of all; by default `self.labels(n, seed)` where there are classes.

        Raises:
            UserError: psi is not 1, and the network has no styles.
            TypeError, ValueError: the labels are not n classes of this generator.
        """
        if psi != 1 and not self.styled:
            raise UserError(f"--psi is {psi:g}, expected 1: the generator has no styles to truncate")
        network = self.network if psi == 1 else partial(self.network, psi=psi)
        if labels is None and self.told_classes:
            labels = self.labels(n, seed)
        told = None if labels is None else asked_for(labels, n, len(self.told_classes))
        return self.generated(network, draw_latents(self.latent_dim, n, seed), told)

    def generated(self, network: Callable[..., Tensor], latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """What the averaged generator, or a part of it, makes of latents (and labels): float32 on the CPU."""
        device, dtype = place_of(self.network)
        return in_parts(network, device, latents.to(dtype), labels)

    def picture(self, given: Mapping[str, Tensor], seed: int = 0) -> Tensor:
        """64 samples, always of the same latents; with classes a column for each, a latent for each row."""
        if not self.told_classes:
            return super().picture(given, seed)
        columns = min(len(self.told_classes), COLUMNS)
        rows = GRID // columns
        latents = draw_latents(self.latent_dim, rows, seed).repeat_interleave(columns, dim=0)
        return image_grid(self.generated(self.network, latents, torch.arange(columns).repeat(rows)), columns)


def read_loss(loss: str | losses.Loss) -> losses.Loss:
    """The objective of a name; an objective as it is.

    Raises:
        UserError: there is no such objective.
    """
    if not isinstance(loss, str):
        return loss
    try:
        return losses.parse(loss)
    except ValueError as error:
        raise UserError(f"task.loss is {error}") from None


def how(total: Any) -> str:
    """How the gradient of the penalties was computed, in words."""
    name = total.method.replace("_", " ")
    return name if total.reason is None else f"{name}, because {total.reason}"


def embeddings(network: nn.Module) -> list[nn.Module]:
    """The tables of vectors in a network, by class or otherwise: their rows are no filters of one layer, and BigGAN's
    orthogonal regularisation leaves them out."""
    return [layer for layer in network.modules() if isinstance(layer, nn.Embedding)]


def _latent_dim(generator: nn.Module, given: int | None) -> int:
    found = getattr(generator, "latent_dim", None) if given is None else given
    if not isinstance(found, int) or found < 1:
        raise UserError(f"task.latent_dim is {found!r}, expected the numbers in a latent vector, at least 1")
    return found
