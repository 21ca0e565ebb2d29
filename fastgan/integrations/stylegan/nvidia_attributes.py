"""Reads the settings of NVIDIA's networks that are no tensors; raises for those that our networks do not have.

Their layers keep these numbers as attributes, many of which are defaults of a constructor and stand in none of its
arguments (stylegan3 clamps at 256 by default, stylegan2-ada not at all).
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import nn

from fastgan.integrations.stylegan.pickled import Network

CONTAINERS = frozenset({"Generator", "SynthesisNetwork", "MappingNetwork", "Discriminator"})
"""Their classes without settings of their own."""

_SQRT2 = 2**0.5
_MAPPING_RATE = 0.01  # of the mapping network's learning rate, in our MappingNetwork


class Part(NamedTuple):
    """A module of theirs, from a file or alive.

    Attributes:
        path: its name in the network.
        kind: the name of its class.
        attributes: its values.
        weight: the shape of its parameter of this name; None without one.
    """

    path: str
    kind: str
    attributes: Mapping[str, Any]
    weight: tuple[int, ...] | None


def nvidia_settings(network: Network | nn.Module) -> dict[str, Any]:
    """The arguments of `build_generator` or `build_critic` that cannot be read off a network's tensors.

        record = read_pickle("network.pkl")["G_ema"]
        generator = build_generator(from_nvidia(record.state_dict), **nvidia_settings(record))

    Args:
        network: a Generator or Discriminator of stylegan2-ada-pytorch's or of stylegan3's StyleGAN2 networks: a record
            that `read_pickle` returns, or the module itself.

    Returns:
        `clamp` and `w_avg_decay` of a generator, `clamp` and `group_size` of a discriminator.

    Raises:
        TypeError: network is neither.
        ValueError: a module is of another class, or an attribute has another value than our networks compute with; the
            message names it.
    """
    if not isinstance(network, Network | nn.Module):
        raise TypeError(f"nvidia_settings: network is {type(network).__name__}, expected a Network or an nn.Module")
    parts = list(_parts(network))
    for part in parts:
        for name, value in _expected(part).items():
            _check(part, name, value)
    found: dict[str, Any] = {"clamp": _clamp(parts)}
    for part in parts:
        if part.kind == "MinibatchStdLayer":
            found["group_size"] = _value(part, "group_size")
        elif part.kind == "MappingNetwork":
            found["w_avg_decay"] = _value(part, "w_avg_beta")
    return found


def _parts(network: Network | nn.Module, path: str = "") -> Iterator[Part]:
    """The network and everything inside it."""
    if isinstance(network, Network):
        kind, attributes, weight = network.class_name, network.attributes, network.state_dict.get("weight")
        inside: Mapping[str, Any] = network.modules
    else:
        kind, attributes, weight = type(network).__name__, vars(network), getattr(network, "weight", None)
        inside = {name: module for name, module in network._modules.items() if module is not None}
    yield Part(path, kind, attributes, None if weight is None else tuple(weight.shape))
    for name, module in inside.items():
        yield from _parts(module, f"{path}.{name}" if path else name)


def _expected(part: Part) -> dict[str, Any]:
    """The values of a module's attributes with which our networks compute.

    Raises:
        ValueError: they have no such module.
    """
    last = part.path.rpartition(".")[2]
    if part.kind in CONTAINERS:
        return {}
    if part.kind == "SynthesisBlock":
        return {"architecture": "skip"}
    if part.kind in ("DiscriminatorBlock", "DiscriminatorEpilogue"):
        return {"architecture": "resnet"}
    if part.kind == "MinibatchStdLayer":
        return {"num_channels": 1}
    if part.weight is None:
        raise ValueError(f"nvidia_settings: {part.path or 'the network'} is a {part.kind}, which our networks have not")
    scale = math.prod(part.weight[1:]) ** -0.5
    if part.kind == "FullyConnectedLayer":
        rate = _MAPPING_RATE if part.path.startswith("mapping.") else 1
        curved = part.path.startswith("mapping.") or last == "fc"
        return {"activation": "lrelu" if curved else "linear", "weight_gain": rate * scale, "bias_gain": rate}
    if part.kind == "SynthesisLayer":
        up = 2 if last == "conv0" else 1
        return {"activation": "lrelu", "act_gain": _SQRT2, "up": up, "padding": 1, "use_noise": True}
    if part.kind == "ToRGBLayer":
        return {"weight_gain": scale}
    if part.kind == "Conv2dLayer":
        act, gain = ("linear", 1.0) if last == "skip" else ("lrelu", _SQRT2)
        down = 2 if last in ("conv1", "skip") else 1
        sizes = {"up": 1, "down": down, "padding": part.weight[-1] // 2}
        return {"activation": act, "act_gain": gain, "weight_gain": scale, **sizes}
    raise ValueError(f"nvidia_settings: {part.path} is a {part.kind}, which our networks have not")


def _clamp(parts: list[Part]) -> float | None:
    """The clamp that all layers share; raises if they have different ones."""
    found: dict[str, Any] = {}
    for part in parts:
        if part.kind == "Conv2dLayer" and part.path.endswith(".skip"):
            _check(part, "conv_clamp", None)
        elif part.kind in ("SynthesisLayer", "ToRGBLayer", "Conv2dLayer"):
            found[part.path] = _value(part, "conv_clamp")
    bounds = set(found.values())
    if len(bounds) > 1:
        some = {bound: path for path, bound in found.items()}
        named = ", ".join(f"{bound} in {path}" for bound, path in some.items())
        raise ValueError(f"nvidia_settings: conv_clamp is {named}, expected one bound for all layers")
    bound = next(iter(bounds), None)
    return None if bound is None else float(bound)


def _check(part: Part, name: str, expected: Any) -> None:
    value = _value(part, name)
    numbers = isinstance(expected, float) and isinstance(value, (int, float))
    if not (math.isclose(value, expected, rel_tol=1e-6) if numbers else value == expected):
        raise ValueError(
            f"nvidia_settings: {part.path}.{name} is {value!r}, expected {expected!r}, with which our networks compute"
        )


def _value(part: Part, name: str) -> Any:
    if name not in part.attributes:
        raise ValueError(f"nvidia_settings: {part.path}, a {part.kind}, has no attribute {name}, expected one")
    return part.attributes[name]
