"""Feature matching: the generator matches the mean of the critic's features of data.

The critic plays an ordinary game by its logit. Its hidden layers learn what tells data from samples, so the means of
these over data are worth matching, and a generator that is asked for nothing else does not chase the critic's newest
move.

    feature_matching(features(real), features(generator(z))).backward()       # any network, in a loop of one's own
    feature_matching_with(hinge)                                               # a Loss, `feature_matching:hinge`
"""

from functools import partial, update_wrapper
from typing import Any

from torch import Tensor

from fastgan.losses.features import leading_logit, vectors, wide
from fastgan.losses.loss import Loss
from fastgan.losses.several_outputs import summed
from fastgan.ops._common.checks import check_floating, check_shape


def feature_matching(real_features: Any, fake_features: Any) -> Tensor:
    """||E_p f(x) - E_q f(G(z))||^2, with f a hidden layer of the critic.

    Args:
        real_features: of data, floating point [B, F] or a map [B, ...], which is flattened, B at least 1. Half
            precision is averaged in float32. Lists, tuples and dicts of such, a tensor for each layer, are added up.
        fake_features: of samples, [B', ...], as many numbers each.

    Returns:
        A scalar in float32 (float64 for float64). Means of batches vary: where the two distributions are one, of the
        variance v_f in each feature, it is on average (1/B + 1/B') sum_f v_f.

    Raises:
        TypeError: an argument is no floating-point tensor.
        ValueError: the shapes are not those, or a batch is empty.

    Salimans et al. 2016, arXiv:1606.03498, section 3.1.
    """
    if not isinstance(real_features, Tensor):
        return summed(feature_matching)(real_features, fake_features)
    owner = "feature_matching"
    check_floating(owner, "real_features", real_features)
    check_floating(owner, "fake_features", fake_features)
    real, fake = vectors(real_features), vectors(fake_features)
    check_shape(owner, "real_features", real, ["B", "F"])
    check_shape(owner, "fake_features", fake, ["B'", real.shape[1]])
    for name, features in (("real_features", real_features), ("fake_features", fake_features)):
        if not len(features):
            raise ValueError(f"{owner}: {name} has shape {list(features.shape)}, expected at least one sample")
    return (wide(real).mean(0) - wide(fake).mean(0)).square().sum()


def critic(loss: Loss, real_outputs: Tensor, fake_outputs: Tensor) -> Tensor:
    """The critic's loss of the wrapped objective, of the critic's first output.

    Args:
        loss: of logits.
        real_outputs: the critic's output on data, a logit and then its features: floating point [B, 1 + F], F >= 1.
        fake_outputs: its output on samples, [B', 1 + F].

    Returns:
        A scalar.

    Raises:
        ValueError: the shapes are not those.
    """
    return loss.critic(_outputs("real_outputs", real_outputs)[:, :1], _outputs("fake_outputs", fake_outputs)[:, :1])


def generator(fake_outputs: Tensor, real_outputs: Tensor | None) -> Tensor:
    """||E_p f(x) - E_q f(G(z))||^2, with f all of the critic's outputs but the first.

    Args:
        fake_outputs: the critic's output on samples, floating point [B, 1 + F], F >= 1.
        real_outputs: its output on data, [B', 1 + F].

    Returns:
        A scalar in float32 (float64 for float64).

    Raises:
        ValueError: the real outputs are missing, or the shapes are not those.

    Salimans et al. 2016, arXiv:1606.03498, section 3.1.
    """
    if real_outputs is None:
        raise ValueError("feature_matching: real_outputs is None, expected the critic's output on data")
    real, fake = _outputs("real_outputs", real_outputs), _outputs("fake_outputs", fake_outputs)
    return feature_matching(real[:, 1:], fake[:, 1:])


def feature_matching_with(loss: Loss) -> Loss:
    """An objective whose critic minimises `loss` by its logit, while the generator matches its features.

    Args:
        loss: what the critic minimises, one of logits: hinge, also with `label_smoothing`, ...

    Returns:
        A `Loss` of a logit and features [B, 1 + F], as `fastgan.nn.LogitAndFeatures` makes a critic give them, named
        `feature_matching:hinge` as `fastgan.losses.parse` reads it. Gradient penalties are of the logit's gradient.

    Raises:
        TypeError: loss is no `Loss`.
        ValueError: its critic's output is no logit.

    Salimans et al. 2016, arXiv:1606.03498, section 3.1.
    """
    if not isinstance(loss, Loss):
        raise TypeError(f"feature_matching_with: loss is {type(loss).__name__}, expected a Loss")
    if loss.output != "logit":
        raise ValueError(f"feature_matching_with: loss is {loss.name}, a game of {loss.output}, expected one of logits")
    return Loss(
        f"feature_matching:{loss.name}",
        update_wrapper(partial(critic, loss), critic),
        generator,
        "Salimans et al. 2016, arXiv:1606.03498",
        needs_real=True,
        output="logit and features",
        witness=leading_logit,
    )


def _outputs(name: str, outputs: Tensor) -> Tensor:
    """Returns outputs [B, 1 + F], a logit and then features; raises for another shape."""
    check_floating("feature_matching", name, outputs)
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        raise ValueError(f"feature_matching: {name} has shape {list(outputs.shape)}, expected [B, 1 + F], F >= 1")
    return outputs
