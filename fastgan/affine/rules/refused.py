"""Rules that refuse fastgan's operations which couple the samples of a batch, with a message of their own."""

from typing import Any, NoReturn

import torch

from fastgan.affine.errors import NotAffineError
from fastgan.affine.rule import Rule, RuleRecorder
from fastgan.ops.minibatch_discrimination.autograd import MinibatchDiscrimination
from fastgan.ops.minibatch_stddev.autograd import MinibatchStddev

FUNCTIONS: frozenset[type] = frozenset({MinibatchDiscrimination, MinibatchStddev})


def minibatch_discrimination(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> NoReturn:
    raise NotAffineError("minibatch discrimination compares the samples of a batch")


def minibatch_stddev(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> NoReturn:
    raise NotAffineError("a minibatch standard deviation compares the samples of a batch")


RULES: dict[Any, Rule] = {
    torch.ops.fastgan.minibatch_discrimination.default: minibatch_discrimination,
    torch.ops.fastgan.minibatch_stddev.default: minibatch_stddev,
}
