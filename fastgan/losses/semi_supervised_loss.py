"""Semi-supervised learning with n + 1 classes: a classifier of n classes plays the critic.

The class n + 1, for samples, has the logit 0, which costs no generality: a constant may be added to all logits. So the
n logits l_k are all there is, and with Z = sum over k of exp l_k the probability of being data is

    D(x) = Z / (Z + 1) = s(log Z)

(Salimans et al. 2016, arXiv:1606.03498, section 5): log Z, by a stable logsumexp, is the logit of an ordinary critic.

    game = semi_supervised(fastgan.losses.nonsaturating)
    supervised(critic(labelled), labels) + game.critic(critic(unlabelled), critic(samples))
"""

import torch
from torch import Tensor

from fastgan.losses.class_labels import cross_entropy
from fastgan.losses.features import wide
from fastgan.losses.loss import Loss
from fastgan.ops._common.checks import check_shape


def logit_of_data(class_logits: Tensor) -> Tensor:
    """log sum_k exp l_k, the logit of the probability Z / (Z + 1) of being data.

    Args:
        class_logits: of the n classes of data, floating point [B, n], n at least 1.

    Returns:
        [B, 1], in float32 (float64 for float64).

    Raises:
        TypeError, ValueError: it is no such tensor.

    Salimans et al. 2016, arXiv:1606.03498, section 5.
    """
    check_shape("semi_supervised", "class_logits", class_logits, ["B", "n"])
    if not class_logits.shape[1]:
        raise ValueError(
            f"semi_supervised: class_logits has shape {list(class_logits.shape)}, expected a class at least"
        )
    logits = wide(class_logits)
    # Of the differences to the largest, as its gradient is exp(l_k - log Z): beside 1e4 a float32 is known to 1e-3.
    largest = logits.detach().amax(1, keepdim=True)
    return largest + torch.logsumexp(logits - largest, 1, keepdim=True)


def supervised(class_logits: Tensor, labels: Tensor) -> Tensor:
    """-E log p(label | x, x is data) = -E (l_label - log Z), on labelled data.

    Args:
        class_logits: the critic's output on labelled data, floating point [B, n].
        labels: its classes, int64 [B].

    Returns:
        A scalar, to be added to the critic's loss of `semi_supervised`.

    Raises:
        TypeError, ValueError: an argument is no such tensor.

    Salimans et al. 2016, arXiv:1606.03498, section 5.
    """
    return cross_entropy("supervised", "", class_logits, labels)


def semi_supervised(loss: Loss) -> Loss:
    """The unsupervised objective of a classifier of n classes: `loss` of its logit log Z of being data.

    Args:
        loss: one whose critic is a classifier, as nonsaturating; also with `label_smoothing` before it is given here.

    Returns:
        A `Loss` of class logits [B, n], whose gradient penalties are of log Z. It is not in `LOSSES` and no name is
        parsed to it, because training needs `supervised` besides.

    Raises:
        TypeError: loss is no `Loss`.
        ValueError: its critic's output is no logit.

    Salimans et al. 2016, arXiv:1606.03498, section 5.
    """
    if not isinstance(loss, Loss):
        raise TypeError(f"semi_supervised: loss is {type(loss).__name__}, expected a Loss")
    if loss.output != "logit":
        raise ValueError(f"semi_supervised: loss is {loss.name}, a game of {loss.output}, expected one of logits")

    def critic(real_class_logits: Tensor, fake_class_logits: Tensor) -> Tensor:
        return loss.critic(logit_of_data(real_class_logits), logit_of_data(fake_class_logits))

    def generator(fake_class_logits: Tensor, real_class_logits: Tensor | None = None) -> Tensor:
        real = None if real_class_logits is None else logit_of_data(real_class_logits)
        return loss.generator(logit_of_data(fake_class_logits), real)

    def witness(class_logits: Tensor, real_class_logits: Tensor, fake_class_logits: Tensor) -> Tensor:
        return logit_of_data(class_logits)[:, 0]

    name = f"semi_supervised:{loss.name}"
    paper = "Salimans et al. 2016, arXiv:1606.03498"
    return Loss(name, critic, generator, paper, loss.needs_real, output="class logits", witness=witness)
