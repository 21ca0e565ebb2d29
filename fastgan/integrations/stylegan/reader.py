"""`read_pickle` reads published networks from pickles without running any of their code."""

import argparse
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from fastgan.errors import UserError, one_line
from fastgan.integrations.stylegan import pickled
from fastgan.integrations.stylegan.pickled import Array, Dtype, Global
from fastgan.integrations.stylegan.torch_file import DAMAGE, RefusedError, load_torch

_ZIP = b"PK\x03\x04"
_OLD_TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # what torch.save began with before it wrote zip files


def read_pickle(path: str | Path) -> Any:
    """Reads a file of NVIDIA's (.pkl) or rosinality's (.pt) to tensors and plain containers; executes nothing.

        state = from_nvidia(read_pickle("ffhq.pkl")["G_ema"].state_dict)
        state = from_rosinality(read_pickle("stylegan2-ffhq-config-f.pt")["g_ema"])

    A pickle is a program: whoever loads one runs it. This reader knows the few names that such files need and builds
    passive values for them; everything else is refused by its name before anything happens. The source code inside
    NVIDIA's files is not executed: their networks become `Network` records with a `state_dict`. Files of torch.save are
    left to `torch.load(weights_only=True)`. Tensors are on the CPU.

    Args:
        path: the file.

    Returns:
        For NVIDIA's a dict with "G", "D" and "G_ema", for rosinality's one with "g_ema" and others, argparse.Namespace
        made a dict.

    Raises:
        UserError: there is no such file, it is no whole pickle, or it refers to something else; the message names it.
    """
    try:
        data = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise UserError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    try:
        if data.startswith((_ZIP, _OLD_TORCH)):
            return _plain(load_torch(data))
        return _Unpickler(io.BytesIO(data)).load()
    except RefusedError as error:
        hint = " (a TensorFlow network: convert it first)" if "dnnlib.tflib" in str(error) else ""
        raise UserError(f"{path} asks for {error}, which read_pickle refuses{hint}; nothing was executed") from None
    except DAMAGE as error:
        raise UserError(f"{path} is no whole pickle: {one_line(error)}") from None


def _plain(loaded: Any) -> Any:
    """The result of torch.load, with argparse.Namespace as a dict."""
    if isinstance(loaded, argparse.Namespace):
        return vars(loaded)
    return {key: _plain(value) for key, value in loaded.items()} if type(loaded) is dict else loaded


class _Unpickler(pickle._Unpickler):
    """Python's own unpickler, every instruction of which that calls or changes something asks `pickled` instead."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]
    metastack: list[list[Any]]
    memo: dict[int, Any]

    def find_class(self, module: str, name: str) -> Global:
        if (module, name) not in pickled.NAMES:
            raise RefusedError(f"{module}.{name}")
        return Global(module, name)

    def persistent_load(self, pid: Any) -> Any:
        raise RefusedError(f"an object from outside the file, {pid!r:.80}")

    def _instantiate(self, klass: Any, args: Any) -> None:
        raise RefusedError(f"an instance of {_kind(klass)}")

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = pickled.call(self.stack[-1], arguments)

    def load_newobj(self) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        if not isinstance(name, Global) or (name.module, name.qualname) not in pickled.CONTAINERS or arguments != ():
            raise RefusedError(f"an instance of {_kind(name)}")
        self.stack.append(pickled.call(name, ()))

    def load_newobj_ex(self) -> None:
        raise RefusedError(f"an instance of {_kind(self.stack[-3])}")

    def load_extension(self) -> None:
        raise RefusedError("a name of copyreg's registry")

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Dtype):
            target.build(state)
        elif isinstance(target, Array):
            built = pickled.array_from_state(state)
            self.stack[-1] = built
            self.memo.update({key: built for key, value in self.memo.items() if value is target})
        elif not (isinstance(target, dict) and state == {}):
            raise RefusedError(f"to set the state of {_kind(target)}")

    for _code, _load in (
        (pickle.REDUCE, load_reduce), (pickle.NEWOBJ, load_newobj), (pickle.NEWOBJ_EX, load_newobj_ex),
        (pickle.BUILD, load_build), (pickle.EXT1, load_extension), (pickle.EXT2, load_extension),
        (pickle.EXT4, load_extension),
    ):  # fmt: skip
        dispatch[_code[0]] = _load


def _kind(value: Any) -> str:
    return str(value) if isinstance(value, Global) else type(value).__name__


def _only_for(kind: type, code: bytes, target: Callable[[_Unpickler], Any]) -> Callable[[_Unpickler], None]:
    """Wraps an instruction that adds items to a container, so that it takes that kind of container only."""
    load: Any = pickle._Unpickler.dispatch[code[0]]

    def checked(unpickler: _Unpickler) -> None:
        container = target(unpickler)
        if type(container) is not kind:
            raise RefusedError(f"to put items into {_kind(container)}")
        load(unpickler)

    return checked


def _under_mark(unpickler: _Unpickler) -> Any:
    return unpickler.metastack[-1][-1]


_Unpickler.dispatch |= {
    pickle.APPEND[0]: _only_for(list, pickle.APPEND, lambda unpickler: unpickler.stack[-2]),
    pickle.APPENDS[0]: _only_for(list, pickle.APPENDS, _under_mark),
    pickle.SETITEM[0]: _only_for(dict, pickle.SETITEM, lambda unpickler: unpickler.stack[-3]),
    pickle.SETITEMS[0]: _only_for(dict, pickle.SETITEMS, _under_mark),
    pickle.ADDITEMS[0]: _only_for(set, pickle.ADDITEMS, _under_mark),
}
