"""Weight decay that a torch optimiser adds to the gradient, and so takes where the parameters stand when it steps."""

from typing import Any

from torch import optim
from torch.optim import Optimizer

_ADDED = (
    optim.SGD, optim.Adam, optim.NAdam, optim.RAdam, optim.Adamax, optim.Adadelta, optim.Adagrad, optim.RMSprop,
    optim.ASGD,
)  # fmt: skip
# Muon is younger than the oldest PyTorch that fastgan takes.
_DECOUPLED = tuple(kind for name in ("AdamW", "Adafactor", "Muon") if (kind := getattr(optim, name, None)))


def added_decay(who: str, optimizer: Optimizer, group: dict[str, Any]) -> float:
    """The number times a parameter that the optimiser adds to its gradient: the slope of an L2 term of half of it.

    Decay beside the gradient (AdamW's: a parameter loses the share lr decay of itself in a step) is not added to it: 0.

    Raises:
        TypeError: the optimiser is not one of torch.optim's, and has a decay of a kind that nobody can know.
    """
    decay = float(group.get("weight_decay", 0))
    if not decay or group.get("decoupled_weight_decay") or isinstance(optimizer, _DECOUPLED):
        return 0.0
    if not isinstance(optimizer, _ADDED):
        raise TypeError(
            f"{who}: the optimizer is {type(optimizer).__name__} with weight_decay {decay:g}, expected one of "
            "torch.optim's, or 0 and an L2 term in the closure: the method must know where the decay is taken"
        )
    return decay
