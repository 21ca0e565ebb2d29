"""What the two players minimise in one step of training, as the closures that the game's optimiser calls."""

from collections.abc import Sequence

from torch import Tensor, nn

from fastgan.losses import Loss
from fastgan.nn import statistics_of
from fastgan.penalties import Penalty, critic_loss, differentiable_critic_loss
from fastgan.regularisers import orthogonal
from fastgan.train.labels import UNLABELLED, Batch, Labels, given
from fastgan.train.look_ahead import unrolled_objective
from fastgan.train.path_length import path_length_gradients
from fastgan.train.regularisation import Regularisation
from fastgan.train.results import Step, method_of
from fastgan.train.state import TrainState


class Closures:
    """Both players' losses on data and latents that are drawn at every call, or once where the game's optimiser asks
    for that.

    Args:
        state: the networks, their objective, and where data and latents come from.
        regularisation: what is added to it.
        batch: data to keep to; None for those that the state draws.

    Attributes:
        step: what the first call of each closure came to.
    """

    def __init__(self, state: TrainState, regularisation: Regularisation, batch: Batch | None = None) -> None:
        self.state, self.regularisation = state, regularisation
        self.step = Step()
        self._given = batch
        self._images: Tensor | None = None
        self._latents: Tensor | None = None
        self._labels = UNLABELLED
        self._paths: tuple[Tensor, Tensor] | None = None
        self._one_batch = state.game.one_batch or batch is not None

    def critic(self) -> Tensor:
        """The critic's loss with its penalties, in a step that has them."""
        if self._images is None or not self._one_batch:
            self._images, labels = self.state.next_batch() if self._given is None else self._given
            self._latents = self.state.next_latents()
            self._labels = Labels(labels, self.state.next_labels())
        assert self._latents is not None
        every = self.regularisation.penalty_every
        penalties = self.regularisation.penalties if self.state.step % every == 0 else ()
        total, step = critic_objective(
            self.state, self.state.loss, self._images, self._latents, penalties, every, self._labels
        )
        self.step = step.with_defaults(self.step)
        return total

    def generator(self) -> Tensor:
        """The generator's loss with its orthogonal regularisation; the gradient of that of path lengths is left in
        `.grad`."""
        if self._latents is None or not self._one_batch:
            self._latents = self.state.next_latents()
            self._labels = self._labels._replace(fake=self.state.next_labels())
        assert self._images is not None, "the critic's closure is called first"
        step = Step()
        every = self.regularisation.path_length_every
        if self.regularisation.path_length and self.state.step % every == 0:
            # First, so that its graph is gone before the other is built.
            weight = self.regularisation.path_length
            step.penalties["path_length"] = path_length_gradients(self.state, weight, every, *self._of_paths())
        batch = self.state, self.state.loss, self._images, self._latents
        steps = self.regularisation.unroll
        if steps:
            value = unrolled_objective(*batch, steps, self._labels)
        else:
            value = generator_objective(*batch, self._labels)
        step.losses["generator"] = value.detach()
        if self.regularisation.orthogonal:
            filters = orthogonal(self.state.generator, self.regularisation.orthogonal, embeddings(self.state.generator))
            step.penalties["orthogonal"] = filters.detach()
            value = value + filters
        self.step = step.with_defaults(self.step)
        return value

    def _of_paths(self) -> tuple[Tensor, Tensor]:
        """The latents whose path lengths are taken, and the mean that these move: one for all calls of one batch."""
        if self._paths is None or not self._one_batch:
            assert self.state.path_length is not None
            self._paths = self.state.next_latents(), self.state.path_length.clone()
        return self._paths


def critic_objective(
    state: TrainState,
    loss: Loss,
    images: Tensor,
    latents: Tensor,
    penalties: Sequence[Penalty] = (),
    times: int = 1,
    labels: Labels = UNLABELLED,
) -> tuple[Tensor, Step]:
    """What the critic minimises to tell data from samples.

    Args:
        images: data, [B, C, H, W].
        latents: of the samples, [B, latent_dim].
        penalties: of the critic's gradient, in one pass where the critic allows it and nothing differentiates the
            critic's gradient again. The points at which they are taken are constants to both players.
        times: how often the penalties are counted.
        labels: of the images and of the samples.

    Returns:
        (a scalar to differentiate, what it consists of).
    """
    samples = state.generator(latents, *given(labels.fake))
    loss, told = state.conditioning.with_labels(loss, labels)
    if not penalties:
        real = state.critic(images, *given(told.real))
        with statistics_of("fake", state.critic):
            fake = state.critic(samples, *given(told.fake))
        value = loss.critic(real, fake)
        return value, Step({"critic": value.detach()}, outputs=(real.detach(), fake.detach()))
    counted = [penalty.times(times) for penalty in penalties]
    if state.game.second_order:
        total = differentiable_critic_loss(state.critic, images, samples, loss, counted, *told)
        method = f"double backward, for {state.game.name}"
    else:
        total = critic_loss(
            state.critic, images, samples, loss=loss, penalties=counted, labels=told.real, fake_labels=told.fake
        )
        method = method_of(total)
    values = {name: value / times for name, value in total.penalties.items()}
    assert total.fake_logits is not None
    outputs = total.real_logits, total.fake_logits
    return total, Step({"critic": total.loss}, values, total.gradient_norms, method, outputs)


def generator_objective(
    state: TrainState, loss: Loss, images: Tensor, latents: Tensor, labels: Labels = UNLABELLED
) -> Tensor:
    """What the generator minimises to be taken for data by the critic as it is now.

    Args:
        images: the data of the critic's update, used by a loss that `needs_real` alone: its samples are compared with
            them (Huang et al. 2024, arXiv:2501.05441, do the same).
        latents: of the samples, [B, latent_dim].
        labels: of the images and of the samples.

    Returns:
        A scalar to differentiate.
    """
    loss, told = state.conditioning.with_labels(loss, labels)
    samples = state.generator(latents, *given(labels.fake))
    with statistics_of("fake", state.critic):
        fake_logits = state.critic(samples, *given(told.fake))
    real_logits = state.critic(images, *given(told.real)) if loss.needs_real else None
    return loss.generator(fake_logits, real_logits)


def embeddings(network: nn.Module) -> list[nn.Module]:
    """The tables of vectors in a network, by class or otherwise: their rows are no filters of one layer, and BigGAN's
    orthogonal regularisation leaves them out."""
    return [layer for layer in network.modules() if isinstance(layer, nn.Embedding)]
