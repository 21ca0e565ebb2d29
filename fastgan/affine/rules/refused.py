"""fastgan's own operations that couple the samples of a batch: refused in so many words."""

from typing import Any, NoReturn

import torch

from fastgan.affine.errors import NotAffineError
from fastgan.ops.minibatch_discrimination.autograd import MinibatchDiscrimination
from fastgan.ops.minibatch_stddev.autograd import MinibatchStddev

FUNCTIONS: frozenset[type] = frozenset({MinibatchDiscrimination, MinibatchStddev})


def minibatch_discrimination(recorder: Any, func: Any, args: tuple, kwargs: dict) -> NoReturn:
    raise NotAffineError("minibatch discrimination compares the samples of a batch")


def minibatch_stddev(recorder: Any, func: Any, args: tuple, kwargs: dict) -> NoReturn:
    raise NotAffineError("a minibatch standard deviation compares the samples of a batch")


RULES: dict[Any, Any] = {
    torch.ops.fastgan.minibatch_discrimination.default: minibatch_discrimination,
    torch.ops.fastgan.minibatch_stddev.default: minibatch_stddev,
}
