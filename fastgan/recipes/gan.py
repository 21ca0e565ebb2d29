"""The recipe of a `fastgan.tasks.GAN` of images: its networks, with what the objective and the classes need of them."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

from torch import nn

from fastgan.errors import UserError, nearest, wrong
from fastgan.losses import Loss
from fastgan.losses.ebgan_loss import with_pulling_away
from fastgan.models import CRITIC_NORMS, CRITICS, GENERATORS, ReferencedCritic, replace_batch_norm
from fastgan.nn import LogitAndFeatures, ReconstructionError, spectral_norm_
from fastgan.recipes.networks import Network
from fastgan.recipes.objective import Objective, Weight
from fastgan.tasks import GAN, Lazily
from fastgan.tasks.conditioning import Conditioning
from fastgan.tasks.conditioning import parse as parse_conditioning
from fastgan.tasks.gan import read_loss
from fastgan.train.settings import Count

FEATURES = 16
"""Of a critic whose features are compared: as in Binkowski et al. 2018, arXiv:1801.01401, section 4."""

Shape = tuple[int, int, int]
"""(C, H, W) of images."""


class GANSection(Objective):
    """One generator against one critic."""

    kind: Literal["gan"]
    """Which task this is."""
    generator: Network
    """Makes images of latents: dcgan, resnet or stylegan2, and numbers of it."""
    critic: Network
    """Judges images: dcgan, dcgan-batch-norm, resnet or stylegan2, and numbers of it."""
    conditional: str = ""
    """How classes are used: projection, auxiliary-classifier (:0.5 its weight), semi-supervised; empty: not at all."""
    critic_norm: str = ""
    """What replaces batch norm in the critic: none, batch, batch-renorm, virtual-batch, split-batch; empty: nothing."""
    pulling_away: Weight = 0.0
    """Weight of EBGAN's term that keeps samples apart (there 0.1), for loss ebgan; 0 for none."""
    path_length: Weight = 0.0
    """Weight of StyleGAN2's path-length regularisation of the generator; 0 for none."""
    path_length_every: Count = 4
    """Steps between two with it, which then weighs as many times as much."""

    def build(self, shape: Shape, classes: Mapping[str, int], batch_size: int) -> GAN:
        """The task with fresh weights.

        Args:
            shape: (C, H, W) of the images.
            classes: of the data, in the order of the labels, with how many samples they have.
            batch_size: of a run: the size of a reference batch.

        Raises:
            UserError: parts do not go together, or a network cannot be built.
        """
        conditioning, loss, arguments = self._conditioning(classes), read_loss(self.loss), self.arguments()
        used = classes if conditioning.name else {}
        told = {"num_classes": len(used)} if conditioning.tells_generator else {}
        if told and not self.generator.takes("num_classes", GENERATORS):
            expected = f"semi-supervised, or none: {self.generator.kind} has no batch norm to make conditional"
            raise wrong("task.conditional", self.conditional, expected)
        generator = self._generator(shape, **told)
        self._check(generator, loss, conditioning)
        critic = self.wrapped(self._critic(shape, loss, conditioning, len(used)))
        if self.critic_norm:
            critic = self._normed(critic, batch_size, shape, conditioning)
        if self.spectral_norm:
            # What is called once for each batch, so that whoever calls it without its wrappers computes all norms too.
            spectral_norm_(critic.critic if isinstance(critic, ReferencedCritic) else critic)
        if self.pulling_away:
            loss = with_pulling_away(loss, self.pulling_away)
        path_length = Lazily(self.path_length, self.path_length_every)
        return GAN(
            generator, self.packed(critic), loss, conditioning=conditioning, classes=used, path_length=path_length,
            **arguments,
        )  # fmt: skip

    def _conditioning(self, classes: Mapping[str, int]) -> Conditioning:
        try:
            conditioning = parse_conditioning(self.conditional)
        except ValueError as error:
            raise UserError(f"task.conditional is {error}") from None
        if conditioning.name and len(classes) < 2:
            found = f"the one class {next(iter(classes))!r}" if classes else "no classes"
            raise UserError(
                f"task.conditional is {self.conditional!r}, but the data have {found}; expected 'digits', or a folder "
                "whose images all lie in subfolders, one for each class"
            )
        return conditioning

    def _generator(self, shape: Shape, **told: int) -> Any:
        return self.generator.build("task.generator", GENERATORS, **_size(shape), **told)

    def _plain_critic(self, shape: Shape, **wanted: int) -> Any:
        """The critic of packs, with so many `outputs` if these are given."""
        return self.critic.build("task.critic", CRITICS, **_size((self.pack * shape[0], *shape[1:])), **wanted)

    def _critic(self, shape: Shape, loss: Loss, conditioning: Conditioning, num_classes: int) -> nn.Module:
        """The critic with what the objective and the classes need: a logit, features, both, an error, class logits."""
        if loss.output == "features":
            return self._plain_critic(shape, outputs=FEATURES)
        if loss.output == "logit and features":
            plain = self._plain_critic(shape)
            return LogitAndFeatures(plain, plain.matched)
        if loss.output == "error":
            # The critic's body encodes, a generator's decodes: what BEGAN does, and near enough to EBGAN.
            decoder = self._generator(shape)
            autoencoder = nn.Sequential(self._plain_critic(shape, outputs=decoder.latent_dim), decoder)
            error = ReconstructionError(autoencoder, power=loss.error_power)
            return LogitAndFeatures(error, "autoencoder.0") if self.pulling_away else error
        return conditioning.critic(partial(self._plain_critic, shape), num_classes)

    def _normed(self, critic: nn.Module, batch_size: int, shape: Shape, conditioning: Conditioning) -> nn.Module:
        """The critic with other layers for its batch norm, and the reference batch that virtual ones need."""
        if self.critic_norm not in CRITIC_NORMS:
            raise wrong("task.critic_norm", self.critic_norm, nearest(self.critic_norm, CRITIC_NORMS))
        if not any(isinstance(layer, nn.BatchNorm2d) for layer in critic.modules()):
            raise wrong("task.critic_norm", self.critic_norm, "nothing: the critic has no batch norm to replace")
        replace_batch_norm(critic, self.critic_norm)
        if self.critic_norm != "virtual-batch":
            return critic
        return ReferencedCritic(critic, batch_size, shape, self.pack, labelled=conditioning.tells_critic)

    def _check(self, generator: nn.Module, loss: Loss, conditioning: Conditioning) -> None:
        styled = hasattr(generator, "synthesis")
        if self.path_length and not styled:
            raise wrong("task.path_length", self.path_length, "0: the generator has no styles")
        if styled:
            for name, reason in (
                ("spectral_norm", "its critic's layers divide their weights by the root of their inputs' number"),
                ("orthogonal", "its styles turn the filters of each sample, whatever those stored are"),
            ):
                if getattr(self, name):
                    raise wrong(f"task.{name}", getattr(self, name), f"none for {self.generator.kind}: {reason}")
            if loss.output == "error":
                raise wrong("task.loss", self.loss, f"another objective: {self.generator.kind} makes no autoencoder")
        if self.pulling_away and (loss.output != "error" or loss.state):
            raise wrong(
                "task.pulling_away", self.pulling_away, f"0: it is a part of ebgan, and the loss is {loss.name}"
            )
        if self.pack > 1 and loss.output == "error":
            raise wrong(
                "task.pack", self.pack, f"1: {loss.name} rewards what is easy to reconstruct, as a pack of samples "
                "that are all alike is",
            )  # fmt: skip
        if conditioning.name and (self.pack > 1 or loss.output != "logit"):
            what, value = ("pack", self.pack) if self.pack > 1 else ("loss", self.loss)
            raise wrong(
                f"task.{what}", value, f"another: {conditioning.name} is of the logits and the class of every sample"
            )


def _size(shape: Shape) -> dict[str, Any]:
    channels, height, width = shape
    return {"channels": channels, "resolution": height if height == width else (height, width)}
