"""The auxiliary classifier: the critic also names the class of what it sees, and both players want it to be right.

    loss.critic(real_logits, fake_logits)
        + auxiliary_classifier.critic(real_class_logits, real_labels, fake_class_logits, fake_labels)
    loss.generator(fake_logits, real_logits) + auxiliary_classifier.generator(fake_class_logits, fake_labels)

The generator is given the class that its sample has to be of. These terms are added to the objective of any other game.
"""

from torch import Tensor

from fastgan.losses.class_labels import cross_entropy


def critic(real_class_logits: Tensor, real_labels: Tensor, fake_class_logits: Tensor, fake_labels: Tensor) -> Tensor:
    """-E_p log P(c | x) - E_q log P(c | G(z, c)).

    Args:
        real_class_logits: the critic's class logits on data, floating point [B, n].
        real_labels: the classes of the data, int64 [B].
        fake_class_logits: its class logits on samples, [B', n].
        fake_labels: the classes that the samples were drawn for, int64 [B'].

    Returns:
        A scalar; 2 log n for a critic that cannot tell the classes apart.

    Raises:
        TypeError, ValueError: an argument is no such tensor.

    Odena et al. 2017, arXiv:1610.09585, equation 3.
    """
    of_data = cross_entropy("auxiliary_classifier", "real_", real_class_logits, real_labels)
    return of_data + cross_entropy("auxiliary_classifier", "fake_", fake_class_logits, fake_labels)


def generator(fake_class_logits: Tensor, fake_labels: Tensor) -> Tensor:
    """-E_q log P(c | G(z, c)), the classifier's loss on samples alone.

    Args:
        fake_class_logits: the critic's class logits on samples, floating point [B, n].
        fake_labels: the classes that the samples were drawn for, int64 [B].

    Returns:
        A scalar; log n for a critic that cannot tell the classes apart.

    Raises:
        TypeError, ValueError: an argument is no such tensor.

    Odena et al. 2017, arXiv:1610.09585, equation 3.
    """
    return cross_entropy("auxiliary_classifier", "fake_", fake_class_logits, fake_labels)
