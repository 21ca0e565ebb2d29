"""The passes of `fastgan.accelerate` over a model: small functions, each for one kind of layer, run in order.

A swapper is a function (model, report) -> None. It changes the class of the modules it knows to a subclass that
computes the same (fastgan/acceleration/substitute.py) and adds to the report what became of every module it looked at.
A later one sees what the earlier ones did; `name_leftovers` reports modules that none of them knew, and comes last.
"""

from collections.abc import Callable

from torch import nn

from fastgan.acceleration.activations import swap_activations
from fastgan.acceleration.convolutions import swap_convolutions
from fastgan.acceleration.functional import swap_functional
from fastgan.acceleration.leftovers import name_leftovers
from fastgan.acceleration.minibatch import swap_minibatch_discrimination
from fastgan.acceleration.minibatch_stddev import swap_minibatch_stddev
from fastgan.acceleration.report import AccelerationReport
from fastgan.acceleration.self_attention import swap_self_attention
from fastgan.acceleration.sequential import swap_sequentials
from fastgan.acceleration.spectral_norms import swap_spectral_norms

Swapper = Callable[[nn.Module, AccelerationReport], None]

SWAPPERS: tuple[Swapper, ...] = (
    swap_spectral_norms,
    swap_activations,
    swap_convolutions,
    swap_minibatch_discrimination,
    swap_minibatch_stddev,
    swap_self_attention,
    swap_sequentials,
    swap_functional,
    name_leftovers,
)
