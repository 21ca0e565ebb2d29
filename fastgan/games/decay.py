"""Weight decay of a torch optimiser, taken where the parameters are when it steps, not where the gradient is from."""

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
    """The coefficient of weight decay that the optimiser adds to gradients, as coefficient times parameter.

    0 for decoupled decay (AdamW), which is not added to the gradient.

    Raises:
        TypeError: the optimiser is not one of torch.optim's and has a weight decay, of unknown kind.
    """
    decay = float(group.get("weight_decay", 0))
    if not decay or group.get("decoupled_weight_decay") or isinstance(optimizer, _DECOUPLED):
        return 0.0
    if not isinstance(optimizer, _ADDED):
        raise TypeError(
            f"{who}: the optimizer is {type(optimizer).__name__} with weight_decay {decay:g}, expected one of "
            "torch.optim's, or 0 and an L2 term in the loss: the method must know where the decay is taken"
        )
    return decay
