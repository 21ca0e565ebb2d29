"""The objective of a critic with several outputs (scales, periods, a map and a logit): the sum of one for each.

    loss = over_outputs(hinge)
    loss.critic([map, coarser_map], [fake_map, coarser_fake_map])

Within a map every objective takes the mean over samples and places, as over samples alone; between maps there is a sum,
so that a coarse scale counts as much as a fine one.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from fastgan.losses.loss import Loss
from fastgan.losses.structure import described, in_order_of, tensors_of


def over_outputs(loss: Loss) -> Loss:
    """The sum of an objective over the tensors of a list, a tuple or a dict; lists may contain lists.

    Args:
        loss: of one tensor. On one tensor the result is the same.

    Returns:
        A `Loss` of the same name. As it is Wang et al. 2018, arXiv:1711.11585, equation 2 (three scales), and Kong et
        al. 2020, arXiv:2010.05646, section 2.4 (periods and scales), with least squares.

    Raises:
        TypeError: loss is no `Loss`.
    """
    if not isinstance(loss, Loss):
        raise TypeError(f"over_outputs: loss is {type(loss).__name__}, expected a Loss")
    return replace(loss, critic=summed(loss.critic), generator=summed(loss.generator))


def summed(objective: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """objective(a, b), summed over the pairs of tensors of `a` and `b`, of dicts by their keys; `b` may be None.

    Raises:
        ValueError: there is another number of tensors in `b` than in `a`.
    """

    def over(a: Any, b: Any = None) -> Tensor:
        if isinstance(a, Tensor):
            return objective(a, b)
        firsts = tensors_of(a)
        seconds = [None] * len(firsts) if b is None else tensors_of(in_order_of(a, b))
        if not firsts or len(firsts) != len(seconds):
            raise ValueError(
                f"loss: the outputs are {described(a)} and {described(b)}, expected as many tensors in both, at least 1"
            )
        terms = [objective(*pair) for pair in zip(firsts, seconds, strict=True)]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total

    return over
