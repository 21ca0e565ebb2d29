"""Compiles a critic's code with TorchDynamo, with the guards that Dynamo leaves out.

Whatever the compiler cannot do raises `CompilerError` before the critic has done anything, so that the caller runs it
without a compiler instead; a program tells of each reason once. What dynamo does not guard by itself is guarded here:
hooks of modules, methods replaced on their classes, modes that see every call.
"""

import os
import sys
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from fastgan._torch_private import (
    DeviceContext,
    compiler_errors,
    compiler_settings,
    function_modes,
    has_hooks_on_every_module,
)
from fastgan.penalties.outputs import Outputs

KEPT = 16
"""Number of compiled critics that are cached; each keeps its network alive."""

Result = TypeVar("Result")

COMPILING = threading.RLock()
"""Lock that is held while something may be compiled: PyTorch's tracers change the state of the process."""


class CompilerError(Exception):
    """The compiler cannot run this; says why. Nothing has run."""


class NotNowError(CompilerError):
    """The compiler cannot run this now; the next call may be another matter."""


class _FullError(CompilerError):
    """Dynamo's limit of compiled variants is reached."""


class _NotCompiledError(Exception):
    """Dynamo ran the critic's code without compiling it."""


def _attempt(compiled: Callable[..., Any], *args: Any) -> Any:
    """compiled(*args), where compiling may be part of it.

    Returns:
        What it returned, or None where only the backend knows.

    Raises:
        CompilerError: it was, and failed.
    """
    check_modes()
    errors = compiler_errors()
    try:
        with compiler_settings().patch(_strict()):
            return compiled(*args)
    except _NotCompiledError:
        raise NotNowError("torch.compile is disabled, or a mode is active that it does not see through") from None
    except errors.FailOnRecompileLimitHit:
        raise _FullError(
            f"more than {_limit()} kinds of call (shapes, flags, hooks) of one critic would be compiled; keep batches "
            "to one shape (drop_last=True), or raise torch._dynamo.config.recompile_limit"
        ) from None
    except errors.TorchDynamoException as error:
        raise CompilerError(in_short(error)) from error
    except AssertionError as error:  # Dynamo's own comes as it is; before 2.13 that of a critic that raises
        if "from user code" not in str(error):
            raise
        raise CompilerError(in_short(error)) from error
    except RuntimeError as error:
        if "found no compiled frames" in str(error):
            return None  # raised afterwards: all threads share the counter, which another's torch.compile has reset
        if "using FX to symbolically trace" not in str(error):
            raise
        raise NotNowError("another thread is compiling") from error


def in_short(error: Exception) -> str:
    """The first line of an error's message, or of the error that it wraps."""
    error = getattr(error, "inner_exception", error)
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def _limit() -> int:
    return compiler_settings().recompile_limit


class Program:
    """One critic's code and what has been compiled of it, for each kind of call that its guards tell apart."""

    def __init__(self, backend: Callable[..., Any], kept_alive: Any, warned: set[str]) -> None:
        self.compiled = torch.compile(_own_code(), backend=backend, fullgraph=True, dynamic=False)
        self.kept_alive = kept_alive
        self._known: set[Any] = set()
        self._refused: dict[Any, str] = {}
        self._full: str | None = None
        self._limit = 0
        self.warned = warned
        """The reasons that this critic's programs have warned of."""

    def __call__(self, critic: Callable[..., Any], outputs: Outputs, x: Tensor, *rest: Any) -> Any:
        """The parts of the outputs of critic(x, *rest) and their form, compiled; None where only the backend knows.

        Raises:
            CompilerError: it cannot be compiled.
        """
        with COMPILING:
            return _attempt(self.compiled, critic, outputs, x, *rest)

    def compiled_or_eager(self, kind: Any, compiled: Callable[[], Result], eager: Callable[[], Result]) -> Result:
        """compiled(), or eager() and a warning where the compiler cannot; remembers for which kinds of call."""
        lasting, reason = False, self._refusal(kind)
        if reason is None:
            try:
                result = compiled()
                self._known.add(kind)
                return result
            except CompilerError as error:
                lasting, reason = not isinstance(error, NotNowError), str(error)
                self._full = reason if isinstance(error, _FullError) else self._full
        result = eager()  # before the warning: it may raise what the compiler has tripped over
        if lasting:
            self._refused[kind] = reason
        self.warn(reason)
        return result

    def _refusal(self, kind: Any) -> str | None:
        """The reason not to compile again what has failed; None to try."""
        if self._limit != _limit():  # what a warning asks for
            self._limit, self._full = _limit(), None
            self._refused.clear()
        return self._refused.get(kind, None if kind in self._known else self._full)

    def warn(self, reason: str) -> None:
        """Warns, once for each reason, that the critic runs without the compiler."""
        if reason not in self.warned:
            self.warned.add(reason)
            warnings.warn(
                f"fastgan.critic_loss runs without the compiler, exactly but slower: {reason}. Leave compile out, or "
                "see 'When it does not compile' in docs/gradient-penalties.md",
                stacklevel=_outside(),
            )


def _strict() -> dict[str, Any]:
    """Dynamo's settings with which it guards hooks and aliases as well, those that this version has."""
    wanted = {
        "skip_nnmodule_hook_guards": False,
        "skip_no_tensor_aliasing_guards_on_parameters": False,
        "skip_tensor_guards_with_matching_dict_tags": False,
        "assume_dunder_attributes_remain_unchanged": False,
    }
    return {name: value for name, value in wanted.items() if hasattr(compiler_settings(), name)}


def check_modes() -> None:
    """Raises NotNowError where what is compiled would not see, or not only see, what the critic's own code sees."""
    if has_hooks_on_every_module():
        raise NotNowError("a hook of all modules is registered, which is called for the compiler's as well")
    for mode in function_modes():
        if not isinstance(mode, DeviceContext):
            raise NotNowError(f"a TorchFunctionMode is active: {type(mode).__name__}")


def call_kind(critic: Callable[..., Tensor], *args: Any) -> Any:
    """A key of a call: calls with equal keys compile, or fail to, alike."""
    shapes = ((tuple(a.shape), a.dtype) if isinstance(a, Tensor) else type(a) for a in args)
    return getattr(critic, "training", None), *shapes


def _outside() -> int:
    """The stack level, for `warnings.warn`, of the first caller outside of fastgan."""
    package, frame, level = os.path.dirname(os.path.dirname(__file__)), sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(package):
        frame, level = frame.f_back, level + 1
    return level


# --- one program for each critic --------------------------------------------------------------------------------------


def _call(critic: Callable[..., Any], outputs: Outputs, x: Tensor, *rest: Any) -> Any:
    if not torch.compiler.is_dynamo_compiling():
        raise _NotCompiledError
    parts, form = outputs.parts(critic(x, *rest), len(x))
    marked = []
    for i, y in enumerate(parts):  # with aliases, by which the graph shows what it returns (`returned.Returned`)
        for _ in range(1 + form.times_judged(i)):
            y = torch.ops.aten.alias.default(y)
        marked.append(y)
    return marked, form


def _own_code() -> Callable[..., Any]:
    """`_call` with a code object of its own: dynamo keeps what it compiles, and counts it, by code object."""
    return FunctionType(_call.__code__.replace(co_name="critic"), _call.__globals__, "critic")


_PROGRAMS: OrderedDict[Any, Program] = OrderedDict()
_LOCK = threading.Lock()


def program_of(critic: Callable[..., Tensor], backend: Any) -> Program:
    """The program of a critic: of a module, or of a function's code, which each new lambda of a line shares."""
    owner = getattr(critic, "__self__", critic)
    owner = owner if isinstance(owner, nn.Module) else getattr(critic, "__code__", critic)
    methods = _methods(owner)
    key = id(owner), backend, frozenset(map(id, methods))
    with _LOCK:
        if key not in _PROGRAMS:
            warned = next((program.warned for (of, *_), program in _PROGRAMS.items() if of == id(owner)), set())
            _PROGRAMS[key] = Program(backend, kept_alive=(owner, methods), warned=warned)
            while len(_PROGRAMS) > KEPT:
                _PROGRAMS.popitem(last=False)
        _PROGRAMS.move_to_end(key)
        return _PROGRAMS[key]


def _methods(owner: Any) -> list[Any]:
    """The methods of its modules and their code: dynamo does not notice when a method is replaced."""
    if not isinstance(owner, nn.Module):
        return []
    classes = {base for module in owner.modules() for base in type(module).__mro__} - {nn.Module, object}
    members = (getattr(member, "__func__", member) for base in classes for member in vars(base).values())
    functions = [member for member in members if isinstance(member, FunctionType)]
    return [*functions, *(f.__code__ for f in functions)]
