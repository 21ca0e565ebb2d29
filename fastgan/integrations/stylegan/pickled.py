"""The values that `read_pickle` builds: inert data for each name in a published network's pickle.

A pickle calls functions by their names. Here every name that is allowed stands for a function of this file that checks
its arguments and builds a tensor, a container, a number or a record; no function or class that a file names is ever
looked up, let alone called. Code that an NVIDIA pickle carries with it (`module_src`) is dropped unread.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastgan.errors import one_line
from fastgan.integrations.stylegan.torch_file import DAMAGE, RefusedError, load_torch


@dataclass(frozen=True)
class Global:
    """A name in a pickle, which is allowed but is only a name."""

    module: str
    qualname: str

    def __str__(self) -> str:
        return f"{self.module}.{self.qualname}"


@dataclass(frozen=True)
class Network:
    """One of NVIDIA's persistent objects, as data.

    Attributes:
        class_name: of the object.
        state_dict: the parameters and buffers of the network, by their full names.
        arguments: what it was constructed with, by name.
        attributes: whatever else it had, as plain values.
        modules: the networks inside it, by name.
    """

    class_name: str
    state_dict: dict[str, Tensor]
    arguments: dict[str, Any]
    attributes: dict[str, Any] = field(repr=False)
    modules: "dict[str, Network]" = field(repr=False, default_factory=dict)


@dataclass(frozen=True)
class Storage:
    """The numbers behind tensors, in one dimension."""

    numbers: Tensor


@dataclass
class Dtype:
    """A numpy dtype of plain numbers."""

    code: str
    order: str = "<"

    def build(self, state: Any) -> None:
        """Sets the byte order from numpy's state."""
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise RefusedError("numpy.dtype with a state of other than plain numbers")
        self.order = state[1]

    def read(self, data: Any) -> np.ndarray:
        """The array of the bytes."""
        if not isinstance(data, bytes | bytearray):
            raise RefusedError(f"numbers in a {type(data).__name__}, expected bytes")
        return np.frombuffer(bytes(data), np.dtype(self.order + self.code)).copy()


class Array:
    """A numpy array, until the pickle tells what is in it."""


def call(name: Any, arguments: Any) -> Any:
    """The inert value that stands for a call of a name with arguments.

    Raises:
        RefusedError: the name does not stand for a function, or the arguments are not those of its own pickles.
    """
    if not isinstance(name, Global):
        raise RefusedError(f"a call of {type(name).__name__}")
    function = FUNCTIONS.get((name.module, name.qualname))
    if function is None or not isinstance(arguments, tuple):
        raise RefusedError(f"a call of {name}")
    try:
        return function(*arguments)
    except RefusedError as error:
        raise RefusedError(f"{name}: {error}") from None
    except DAMAGE as error:
        kinds = ", ".join(type(argument).__name__ for argument in arguments)
        raise RefusedError(f"{name} with the arguments ({kinds}): {one_line(error)}") from None


# --- PyTorch ---------------------------------------------------------------------------------------------------------


def _storage(data: bytes) -> Storage:
    _need(isinstance(data, bytes), "expected bytes")
    storage = load_torch(data)
    _need(isinstance(storage, torch.TypedStorage), f"holds {type(storage).__name__}, expected a storage")
    untyped = storage._untyped_storage  # what its public functions say they are deprecated in favour of
    numbers = torch.empty(0, dtype=storage.dtype)
    return Storage(numbers.set_(untyped, 0, (untyped.nbytes() // numbers.element_size(),), (1,)))


def _tensor(
    storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], requires_grad: bool, hooks: Any,
    metadata: Any = None,
) -> Tensor:  # fmt: skip
    _need(isinstance(storage, Storage), "expected a storage")
    sizes = (offset, *size, *stride)
    _need(all(type(n) is int and n >= 0 for n in sizes) and len(size) == len(stride), "expected sizes and strides")
    _need(not hooks and not metadata, "expected no hooks and no attributes")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    _need(
        0 in size or last < len(storage.numbers), f"{list(size)} is more than the {len(storage.numbers)} numbers there"
    )
    # A tensor that repeats its numbers could be of any size.
    _need(math.prod(size) <= len(storage.numbers), f"{list(size)} repeats the {len(storage.numbers)} numbers there")
    return storage.numbers.as_strided(size, stride, offset).clone()


def _parameter(data: Tensor, requires_grad: bool, hooks: Any) -> Tensor:
    _need(isinstance(data, Tensor), "expected a tensor")
    _need(not hooks, "expected no hooks")
    return data


# --- containers ------------------------------------------------------------------------------------------------------


def _dict(items: Any = ()) -> dict[Any, Any]:
    _need(isinstance(items, list | tuple), "expected pairs")
    return dict(items)


def _set(items: Any = ()) -> set[Any]:
    _need(isinstance(items, list | tuple), "expected a list")
    return set(items)


def _encode(text: str, encoding: str) -> bytes:
    _need(isinstance(text, str) and encoding == "latin1", "expected text and latin1")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


# --- numpy -----------------------------------------------------------------------------------------------------------


def _dtype(code: str, align: Any, copy: Any) -> Dtype:
    _need(isinstance(code, str) and re.fullmatch(r"f[248]|[iu][1248]|b1", code) is not None, "expected plain numbers")
    return Dtype(code)


def _scalar(dtype: Dtype, data: bytes) -> Any:
    _need(isinstance(dtype, Dtype), "expected a numpy.dtype")
    return dtype.read(data).reshape(()).item()


def _empty_array(kind: Global, shape: tuple[int, ...], code: bytes) -> Array:
    _need(kind == Global("numpy", "ndarray"), "expected numpy.ndarray")
    return Array()


def array_from_state(state: Any) -> np.ndarray:
    """The array that a pickle's state describes."""
    _need(isinstance(state, tuple) and len(state) == 5 and isinstance(state[2], Dtype), "expected a state of numbers")
    _, shape, dtype, fortran, data = state
    return dtype.read(data).reshape(shape, order="F" if fortran else "C")


def _array(data: bytes, dtype: Dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    _need(isinstance(dtype, Dtype) and order in ("C", "F"), "expected a numpy.dtype and an order")
    return dtype.read(data).reshape(shape, order="F" if order == "F" else "C")


# --- NVIDIA's persistent objects -------------------------------------------------------------------------------------


def _network(meta: dict[str, Any]) -> Network:
    _need(isinstance(meta, dict) and meta.get("type") == "class", "expected a class")
    name, state = meta.get("class_name"), meta.get("state")
    _need(isinstance(name, str) and isinstance(state, dict), "expected the name and the state of an object")
    assert isinstance(name, str)
    assert isinstance(state, dict)
    arguments = state.get("_init_kwargs", {})
    _need(isinstance(arguments, dict), "expected arguments by name")
    rest = {key: value for key, value in state.items() if isinstance(key, str) and not key.startswith("_")}
    tensors = _state_dict(name, state)
    modules = {key: module for key, module in state.get("_modules", {}).items() if module is not None}
    return Network(name, tensors, dict(arguments), rest, modules)


def _state_dict(class_name: str, state: dict[str, Any]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    parts = [state.get(part, {}) for part in ("_parameters", "_buffers", "_modules")]
    _need(all(isinstance(part, dict) and all(isinstance(k, str) for k in part) for part in parts), "expected a module")
    parameters, buffers, modules = parts
    transient = state.get("_non_persistent_buffers_set", set())
    for name, value in [*parameters.items(), *buffers.items()]:
        if value is not None and name not in transient:
            _need(isinstance(value, Tensor), f"{class_name}.{name} is {type(value).__name__}, expected a tensor")
            tensors[name] = value
    for name, module in modules.items():
        if module is not None:
            _need(isinstance(module, Network), f"{class_name}.{name} is {type(module).__name__}, expected a network")
            tensors |= {f"{name}.{inner}": value for inner, value in module.state_dict.items()}
    return tensors


def _need(condition: bool, otherwise: str) -> None:
    if not condition:
        raise RefusedError(otherwise)


FUNCTIONS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _network,
    ("dnnlib.util", "EasyDict"): _dict,
    ("collections", "OrderedDict"): _dict,
    ("builtins", "set"): _set,
    ("__builtin__", "set"): _set,
    # How pickles in the protocols of Python 2 write bytes.
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    ("numpy", "dtype"): _dtype,
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _empty_array for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _array for core in ("core", "_core")},
}
"""Module and name -> what a call of it builds."""

NAMES = FUNCTIONS.keys() | {("numpy", "ndarray")}
"""The names that a pickle may contain."""

CONTAINERS = {("dnnlib.util", "EasyDict"), ("collections", "OrderedDict"), ("builtins", "set"), ("__builtin__", "set")}
"""The classes of which a pickle may make an empty instance."""
