"""The private parts of PyTorch that fastgan uses, under names that say what they are.

They may change with any release: tests/test_torch_private.py looks up and calls each one, and names what is gone. C
functions are bound here without a wrapper, so that a call costs no more than one of PyTorch's own. TorchDynamo is
imported by the functions that need it only, since importing it takes seconds.
"""

import contextlib
import functools
import sys
import weakref
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

import torch
from torch import nn
from torch.autograd import forward_ad
from torch.autograd.function import BackwardCFunction as BackwardCFunction
from torch.multiprocessing.reductions import StorageWeakRef as StorageWeakRef
from torch.nn.modules import module as _modules
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.utils import _python_dispatch, _pytree, checkpoint
from torch.utils._device import DeviceContext as DeviceContext
from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode


def _part(owner: Any, name: str) -> Any:
    """A private function of PyTorch; where it is gone, a function that raises RuntimeError when it is called."""

    def gone(*args: Any) -> Any:
        raise RuntimeError(f"fastgan needs {owner.__name__}.{name}, which PyTorch {torch.__version__} does not have")

    return getattr(owner, name, gone)


# --- autograd ---------------------------------------------------------------------------------------------------------

current_backward_pass: Callable[[], int] = _part(torch._C, "_current_graph_task_id")
"""The number of the backward pass that is running; -1 outside of one."""

current_backward_node: Callable[[], Any] = _part(torch._C, "_current_autograd_node")
"""The node of autograd's graph whose backward is running; None outside of one."""

backward_pass_runs: Callable[[Any], bool] = _part(torch._C, "_will_engine_execute_node")
"""Whether the running backward pass comes to this node; RuntimeError for a leaf whose gradient it returns."""

top_saved_tensors_hooks: Callable[[bool], Any] = _part(torch._C._autograd, "_top_saved_tensors_default_hooks")
"""(pack, unpack) of the innermost `saved_tensors_hooks`, or None. Called with False: not while tracing."""

push_saved_tensors_hooks: Callable[..., None] = _part(torch._C._autograd, "_push_saved_tensors_default_hooks")
pop_saved_tensors_hooks: Callable[[], None] = _part(torch._C._autograd, "_pop_saved_tensors_default_hooks")

why_no_saved_tensors_hooks: Callable[[], str | None] = _part(
    torch._C._autograd, "_saved_tensors_hooks_get_disabled_error_message"
)
"""The message given to `torch.autograd.graph.disable_saved_tensors_hooks`; None where hooks may be set."""

CheckpointFrame: type | None = getattr(checkpoint, "_CheckpointFrame", None)
"""One run of `torch.utils.checkpoint` without re-entry; None where PyTorch has no such class."""

_keeps_graph: Callable[[], bool] | None = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)


def checkpoint_behind(pack: Any) -> Any:
    """The run of a checkpoint that a hook which packs saved tensors belongs to; None if it is another hook."""
    while hasattr(pack, "__wrapped__"):
        pack = pack.__wrapped__
    for cell in getattr(pack, "__closure__", None) or ():
        value = cell.cell_contents
        if isinstance(value, weakref.ref):
            value = value()
        if CheckpointFrame is not None and isinstance(value, CheckpointFrame):
            return value
    return None


def sequence_number(node: Any) -> int:
    """A number that is higher for every node of autograd's graph that this thread makes; the highest for leaves."""
    return node._sequence_nr()


def backward_keeps_graph() -> bool:
    """Whether the running backward pass has retain_graph=True; True where PyTorch cannot say."""
    return _keeps_graph is None or _keeps_graph()


def in_forward_mode() -> bool:
    """Whether a level of forward-mode differentiation is open."""
    return forward_ad._current_level >= 0


# --- what sees the calls of torch's functions -------------------------------------------------------------------------

dispatch_mode_count: Callable[[], int] = _part(torch._C, "_len_torch_dispatch_stack")
"""The number of active dispatch modes."""

dispatch_modes: Callable[[], list[Any]] = _part(_python_dispatch, "_get_current_dispatch_mode_stack")
"""The active dispatch modes, the innermost last."""

innermost_dispatch_mode: Callable[[], Any] = _part(_python_dispatch, "_get_current_dispatch_mode")
function_mode_count: Callable[[], int] = _part(torch._C, "_len_torch_function_stack")
"""The number of active function modes."""

function_modes: Callable[[], list[Any]] = _part(torch.overrides, "_get_current_function_mode_stack")
functorch_is_active: Callable[[], bool] = _part(torch._C, "_are_functorch_transforms_active")
"""Whether a transform of torch.func is running."""

_dispatch_mode: Callable[[Any], Any] = _part(torch._C, "_get_dispatch_mode")


def is_traced() -> bool:
    """Whether operations go to a compiler (make_fx), whose tensors have no elements to look at."""
    kinds = torch._C._TorchDispatchModeKey
    return _dispatch_mode(kinds.PROXY) is not None or _dispatch_mode(kinds.FAKE) is not None


is_functorch_wrapped: Callable[[torch.Tensor], bool] = _part(torch._C._functorch, "is_functorch_wrapped_tensor")
no_torch_function: Any = _part(torch._C, "_disabled_torch_function_impl")
"""The `__torch_function__` of a subclass of Tensor that is an ordinary tensor for every function."""

is_zero_tensor: Callable[[torch.Tensor], bool] = _part(torch, "_is_zerotensor")
"""Whether a tensor is autograd's zero that has no memory."""

# --- modules ----------------------------------------------------------------------------------------------------------

module_call_code: CodeType = nn.Module._call_impl.__code__
"""The code of the call of every module, by which its frame on the stack is known; `self` is the module."""

AnyConvolution = nn.modules.conv._ConvNd
"""The base of nn.Conv1d, nn.ConvTranspose1d and all the others."""

TorchSpectralNorm = _SpectralNorm
"""The parametrization that `torch.nn.utils.parametrizations.spectral_norm` registers."""

# (layer, input, weight, bias) -> output: what the layers' forward calls, and subclasses replace.
conv1d_forward: Callable[..., torch.Tensor] = nn.Conv1d._conv_forward
conv2d_forward: Callable[..., torch.Tensor] = nn.Conv2d._conv_forward
conv3d_forward: Callable[..., torch.Tensor] = nn.Conv3d._conv_forward

_HOOKS_OF_EVERY_MODULE = (
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
)


def has_hooks_on_every_module() -> bool:
    """Whether a hook is registered that is called for all modules (`register_module_forward_hook` and the like)."""
    return any(getattr(_modules, hooks) for hooks in _HOOKS_OF_EVERY_MODULE)


def call_is_forward(module: nn.Module) -> bool:
    """Whether calling the module is no more than calling its class's forward: no hook, no forward of the instance."""
    return not (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or module._compiled_call_impl is not None
        or "forward" in module.__dict__
        or "_conv_forward" in module.__dict__
    )


def is_fully_sharded(module: nn.Module) -> bool:
    """Whether `fully_shard` or FullyShardedDataParallel gathers the module's weights for each pass."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    names = ("FSDPModule", "FullyShardedDataParallel")
    return any(isinstance(module, kind) for name in names if (kind := getattr(fsdp, name, None)) is not None)


# --- containers, and operations on lists of tensors -------------------------------------------------------------------

tree_flatten: Callable[..., Any] = _pytree.tree_flatten
tree_map: Callable[..., Any] = _pytree.tree_map
tree_unflatten: Callable[..., Any] = _pytree.tree_unflatten
tree_leaves: Callable[..., list[Any]] = _pytree.tree_leaves

foreach_add: Callable[..., Any] = _part(torch, "_foreach_add")
foreach_clamp_max_: Callable[..., None] = _part(torch, "_foreach_clamp_max_")
foreach_clamp_min_: Callable[..., None] = _part(torch, "_foreach_clamp_min_")
foreach_copy_: Callable[..., None] = _part(torch, "_foreach_copy_")
foreach_lerp: Callable[..., Any] = _part(torch, "_foreach_lerp")
foreach_mul: Callable[..., Any] = _part(torch, "_foreach_mul")

# --- torch.compile ----------------------------------------------------------------------------------------------------


def is_compiled_module(module: nn.Module) -> bool:
    """Whether a module is what torch.compile(module) returns, or of a subclass of it."""
    kind = _class_of_compiled_modules()
    return kind is not None and isinstance(module, kind)


def only_runs_compiled(module: nn.Module) -> bool:
    """Whether a module is exactly what torch.compile(module) returns, and its forward has not been replaced since."""
    return type(module) is _class_of_compiled_modules() and hasattr(module.forward, "_torchdynamo_orig_callable")


def _class_of_compiled_modules() -> type | None:
    """None as long as TorchDynamo has not been imported, and there is none."""
    return getattr(sys.modules.get("torch._dynamo.eval_frame"), "OptimizedModule", None)


def break_graph() -> None:
    """Ends torch.compile's graph here; called where it traces, it says so to TorchDynamo."""
    torch._dynamo.graph_break()


def compiler_backends() -> list[str]:
    """The names of torch.compile's backends."""
    from torch._dynamo import list_backends

    return list_backends()


def compiler_backend(name: str) -> Callable[..., Any] | None:
    """torch.compile's backend of this name; None if there is none."""
    from torch._dynamo.backends.registry import lookup_backend
    from torch._dynamo.exc import InvalidBackend

    try:
        return lookup_backend(name)
    except InvalidBackend:
        return None


def compile_graph(backend: str, graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
    """A graph compiled by a backend of torch.compile, as the backend is called by it, without TorchDynamo."""
    from torch._dynamo.backends.registry import lookup_backend

    with _writes_in_order() if backend == "inductor" else contextlib.nullcontext():
        return lookup_backend(backend)(graph, inputs)


@contextlib.contextmanager
def _writes_in_order() -> Iterator[None]:
    """Inside, inductor's fusion of loops on the CPU (PyTorch 2.13) reads no buffer before a scatter has filled it.

    `SchedulerNode.recompute_size_and_body`, which gives a loop the ranges of one that it is fused with, computes anew
    what the loop reads, and loses that a buffer is to be read after an operation that writes to it (scatter, index_put:
    the gradients of a maximum and of an index). There `rename` says so again, as `refresh_dependencies` does. What
    others compile is left as it is.
    """
    from torch._inductor import scheduler

    node = getattr(scheduler, "SchedulerNode", None)
    recompute = getattr(node, "recompute_size_and_body", None)
    if node is None or recompute is None:
        yield
        return

    @functools.wraps(recompute)
    def recompute_in_order(self: Any, *args: Any, **kwargs: Any) -> None:
        recompute(self, *args, **kwargs)
        self.set_read_writes(self.read_writes.rename(self.mutation_renames))

    node.recompute_size_and_body = recompute_in_order
    try:
        yield
    finally:
        node.recompute_size_and_body = recompute


def compiler_settings() -> Any:
    """TorchDynamo's settings, with `patch({name: value})` as a context manager."""
    import torch._dynamo

    return torch._dynamo.config


def compiler_errors() -> Any:
    """The module of TorchDynamo's exceptions."""
    from torch._dynamo import exc

    return exc


def graph_of(function: Callable[..., Any]) -> Callable[..., torch.fx.GraphModule]:
    """A tracer of `function`: called with tensors, it returns the graph for fake tensors of their shapes."""
    from torch.fx.experimental.proxy_tensor import make_fx

    return make_fx(function, tracing_mode="fake", _allow_non_fake_inputs=True)
