"""Everything that a training step reads and changes, as one flat dictionary of tensors."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from fastgan.data import EpochOrder, Images
from fastgan.losses.began_loss import Began
from fastgan.models import PRESETS
from fastgan.nn import InstanceNoise, spectral_norm_
from fastgan.regularisers import clip_weights_
from fastgan.train.average import MovingAverage
from fastgan.train.conditioning import UNCONDITIONAL
from fastgan.train.config import TrainConfig
from fastgan.train.labels import Batch, draw_labels
from fastgan.train.networks import build_critic, build_generator
from fastgan.train.packs import inside
from fastgan.train.pulling_away import with_pulling_away


class TrainState:
    """The two players, their optimisers, the averaged generator and every source of randomness.

    `tensors` and `load_tensors` carry all of it through a checkpoint: on the CPU a restored run goes on bit for bit
    (with the same number of threads and the same version of PyTorch).

    Args:
        config: the run's settings.
        images: what it trains on.
        device: where the networks live. Latents are drawn on the CPU, so that they are the same on every device.

    Attributes:
        generator, critic, generator_optimizer, critic_optimizer, average: see their types.
        game: the game's optimiser, over those of the players.
        conditioning: how the classes of the data are used.
        loss: what the players minimise, with its state if it has one.
        num_classes: of the data, 0 where nobody has said.
        latent_dim: numbers in a latent vector.
        step: steps taken.
        noise: what the critic adds to its input first; None without instance noise.
        path_length: the moving average of the generator's path lengths, a scalar; None without that regularisation.
    """

    def __init__(self, config: TrainConfig, images: Images, device: torch.device) -> None:
        preset = PRESETS[config.preset]
        weights, order, latents, self._layers_seed, labels, reference = seeds(config.seed, 6)
        self.conditioning = config.conditioning
        self.num_classes = len(images.classes)
        self._device, self._images, self._class_counts = device, images, images.class_counts
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(weights)
            self.generator = build_generator(config, self.num_classes)
            self.critic = build_critic(config, self.num_classes, self._reference(config, reference))
            self.generator.to(device)
            if config.spectral_norm:
                # The one inside, so that whoever calls it without its wrappers computes all norms at once as well.
                spectral_norm_(inside(self.critic))
            self.critic.to(device)
        self.critic_optimizer = config.optimizer_of(self.critic, config.lr_critic)
        self.generator_optimizer = config.optimizer_of(self.generator, config.lr)
        if config.clip_weights:
            self.critic_optimizer.register_step_post_hook(self.clip)
        self.game = config.method(self.critic_optimizer, self.generator_optimizer)
        loss, weight = config.objective, config.pulling_away
        self.loss = with_pulling_away(loss, weight) if weight else loss
        self.average = MovingAverage(self.generator, config.ema)
        self.noise = next((layer for layer in self.critic.modules() if isinstance(layer, InstanceNoise)), None)
        self.path_length = torch.zeros([], dtype=torch.float32, device=device) if config.path_length else None
        self.step = 0
        self.latent_dim = preset.latent_dim
        self._limit = config.clip_weights
        self._order = EpochOrder(len(images), config.batch_size, order)
        self._latents = torch.Generator().manual_seed(latents)
        self._labels = torch.Generator().manual_seed(labels)

    def _reference(self, config: TrainConfig, seed: int) -> Batch | None:
        """Data for the critic's virtual batch norm, as many as a batch; None without."""
        if config.critic_norm != "virtual-batch":
            return None
        random = torch.Generator().manual_seed(seed)
        images, labels = self._batch(torch.randperm(len(self._images), generator=random)[: config.batch_size])
        return Batch(images, labels if self.conditioning.tells_critic else None)

    def clip(self, *_: object) -> None:
        """Clips the critic's weights: after every step of its optimiser, and of the game, which may move them too."""
        if self._limit:
            clip_weights_(self.critic, self._limit)

    def next_batch(self) -> Batch:
        """The next batch of data."""
        return self._batch(next(self._order))

    def _batch(self, indices: Tensor) -> Batch:
        images = self._images.batch(indices).to(self._device)
        known = None if self.conditioning is UNCONDITIONAL else self._images.labels
        return Batch(images, None if known is None else known[indices].to(self._device))

    @property
    def epoch_begins(self) -> bool:
        """Whether the next batch is the first of an epoch."""
        return self._order.begins

    def every_batch(self) -> Iterator[Batch]:
        """The whole data in batches of the usual size; what is left over is left out."""
        count, size = len(self._images), self._order.batch_size
        for start in range(0, count - size + 1, size):
            yield self._batch(torch.arange(start, start + size))

    def next_latents(self) -> Tensor:
        """A batch of fresh standard normal latents, float32 [B, latent_dim] on the device."""
        latents = torch.randn(self._order.batch_size, self.latent_dim, generator=self._latents, dtype=torch.float32)
        return latents.to(self._device)

    def next_labels(self) -> Tensor | None:
        """The classes that a batch of samples is to be of, int64 [B] on the device, as frequent as those of the data.

        None where the generator is not told.
        """
        if not self.conditioning.tells_generator:
            return None
        return draw_labels(self._class_counts, self._order.batch_size, self._labels).to(self._device)

    def anneal(self) -> dict[str, Tensor]:
        """Sets what follows the number of the step, and returns it by its name in the log."""
        if self.noise is None:
            return {}
        self.noise.anneal(self.step)
        return {"instance_noise": self.noise.std.clone()}

    @contextmanager
    def layer_randomness(self) -> Iterator[None]:
        """Gives dropout the run's own stream of PyTorch's global generators, and the caller's back afterwards."""
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.default_generator.manual_seed(self._layers_seed)
            if devices:
                with torch.cuda.device(self._device):
                    torch.cuda.manual_seed(self._layers_seed)
            yield

    def _modules(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "critic": self.critic, "average": self.average.network}

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"generator_optimizer": self.generator_optimizer, "critic_optimizer": self.critic_optimizer}

    def tensors(self) -> dict[str, Tensor]:
        """The whole state by name, to be called inside `layer_randomness`; the values are not copied."""
        named: dict[str, Tensor] = {"step": torch.tensor(self.step)}
        for owner, module in self._modules().items():
            named |= {f"{owner}.{name}": value for name, value in module.state_dict().items()}
        for owner, optimizer in self._optimizers().items():
            for index, values in optimizer.state_dict()["state"].items():
                named |= {f"{owner}.{index}.{name}": value for name, value in values.items()}
        named |= {f"order.{name}": value for name, value in self._order.state_dict().items()}
        named |= {"random.latents": self._latents.get_state(), "random.layers": torch.get_rng_state()}
        if self.conditioning.tells_generator:
            named["random.labels"] = self._labels.get_state()
        for name, values in self.game.memory.items():
            named |= {f"game.{name}.{index}": value for index, value in enumerate(values)}
        if isinstance(self.loss, Began):
            named |= {f"loss.{name}": value for name, value in self.loss.state_dict().items()}
        if self.path_length is not None:
            named["path_length"] = self.path_length
        if self._device.type == "cuda":
            named["random.layers_cuda"] = torch.cuda.get_rng_state(self._device)
        return named

    def load_tensors(self, named: dict[str, Tensor]) -> None:
        """Continues from `tensors()`, to be called inside `layer_randomness`.

        Raises:
            KeyError, RuntimeError, ValueError: a tensor is missing, left over or of the wrong shape.
        """
        for owner, module in self._modules().items():
            module.load_state_dict(below(named, owner))
        for owner, optimizer in self._optimizers().items():
            state: dict[int, dict[str, Tensor]] = {}
            for name, value in below(named, owner).items():
                index, key = name.split(".")
                state.setdefault(int(index), {})[key] = value
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        memory: dict[str, dict[int, Tensor]] = {}
        for name, value in below(named, "game").items():
            key, index = name.split(".")
            memory.setdefault(key, {})[int(index)] = value
        vectors = {key: [values[i] for i in range(len(values))] for key, values in memory.items()}
        self.game.load_memories({"memory": vectors})
        self._order.load_state_dict(below(named, "order"))
        self._latents.set_state(named["random.latents"])
        if self.conditioning.tells_generator:
            self._labels.set_state(named["random.labels"])
        torch.set_rng_state(named["random.layers"])
        if self._device.type == "cuda" and "random.layers_cuda" in named:
            torch.cuda.set_rng_state(named["random.layers_cuda"], self._device)
        if isinstance(self.loss, Began):
            self.loss.load_state_dict(below(named, "loss"))
        if self.path_length is not None:
            self.path_length.copy_(named["path_length"])
        self.step = int(named["step"])


def seeds(seed: int, count: int) -> list[int]:
    """Independent seeds for the random streams of a run."""
    return [int(value) for value in np.random.SeedSequence(seed).generate_state(count)]


def below(named: dict[str, Tensor], owner: str) -> dict[str, Tensor]:
    """The tensors of one owner, without its name: those of `average` are the averaged generator's state_dict."""
    prefix = owner + "."
    return {name[len(prefix) :]: value for name, value in named.items() if name.startswith(prefix)}
