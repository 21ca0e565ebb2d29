"""`fastgan.accelerate(model)` replaces the layers of an existing PyTorch model by fastgan's; `restore` undoes it."""

import copy
from typing import Any

from torch import nn

from fastgan.acceleration.profile import compare
from fastgan.acceleration.report import AccelerationReport
from fastgan.acceleration.spectral_norms import take_back_spectral_norms
from fastgan.acceleration.substitute import take_back
from fastgan.acceleration.swappers import SWAPPERS
from fastgan.nn.all_or_nothing import all_or_nothing


def accelerate(model: nn.Module, profile: tuple[Any, ...] | None = None) -> AccelerationReport:
    """Replaces the layers of a model, in place, by layers of fastgan that compute the same.

    Convolutions and piecewise linear activations give torch's values and first derivatives by torch's kernels, and
    second derivatives without needless work; tanh is fused; minibatch discrimination layers and self-attention blocks
    are verified on a copy in float64 and then run by kernels; on a GPU the bias and the activation after a layer in an
    nn.Sequential take one pass. In the calls of layers and models that call torch's functions with weights of their
    own, those functions are fastgan's (`accelerated`). Whatever fastgan does not know is left as it is, and the report
    says so.

    Only the classes of modules change, each to a subclass of its own: parameters, buffers, state_dict, hooks,
    optimisers, isinstance, deepcopy and pickle notice nothing. torch.compile, torch.func, forward mode, the one-pass
    penalties and a TorchFunctionMode see torch's own operations (not those of spectral norms). A second call changes
    nothing.

    Args:
        model: any module, also a single layer.
        profile: the model's arguments: the median time of a forward and backward pass is measured on copies, before
            and after, in alternation. It leaves the gradients, buffers and random state as they are.

    Returns:
        The report, whose `str` is a table: a row for each layer, what it became, or why it was left.

    Raises:
        TypeError: model is not a module, or profile is not a tuple.
    """
    _check_module("accelerate", model)
    if profile is not None and not isinstance(profile, tuple):
        raise TypeError(f"accelerate: profile is {type(profile).__name__}, expected a tuple of the model's arguments")
    before = None if profile is None else _copy(model)
    if before is not None and profile is not None:
        compare(before, before, profile, rounds=0)  # arguments that do not fit raise before anything has changed
    report = AccelerationReport()
    with all_or_nothing(model):
        for swap in SWAPPERS:
            swap(model, report)
        report.finish([path for path, _ in model.named_modules()])
        if before is not None and profile is not None:
            report.before_ms, report.after_ms = compare(before, _copy(model), profile)
    return report


def restore(model: nn.Module) -> None:
    """Undoes `accelerate`: every module has the class that it had.

    Raises:
        TypeError: model is not a module.
    """
    _check_module("restore", model)
    with all_or_nothing(model):
        take_back_spectral_norms(model)
        for module in model.modules():
            take_back(module)


def _copy(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except Exception as error:
        raise TypeError(f"accelerate: profile needs a copy of the model, which cannot be copied: {error}") from error


def _check_module(function: str, model: Any) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"{function}: model is {type(model).__name__}, expected a torch.nn.Module")
