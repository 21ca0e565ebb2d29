"""PyTorch's private parts: each is still there and does what its name here says, and nobody else reaches for them."""

import ast
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from fastgan import _torch_private as private

ROOT = Path(__file__).resolve().parent.parent


class Nothing(private.TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def in_backward(asked: Callable[[], object], **settings: bool) -> object:
    """What `asked` returns in a backward pass."""
    found = []
    x = torch.ones(1, requires_grad=True)
    y = 2 * x
    y.register_hook(lambda g: found.append(asked()))
    y.backward(**settings)
    return found[0]


def current_backward_pass():
    assert private.current_backward_pass() == -1
    assert in_backward(private.current_backward_pass) >= 0


def current_backward_node():
    assert in_backward(private.current_backward_node) is not None


def backward_pass_runs():
    """A backward pass to one of two factors does not come to the node of the other."""
    x = torch.ones(1, requires_grad=True)
    left, right = x.sin(), torch.ones(1, requires_grad=True).sin()
    found = []
    product = left * right
    product.register_hook(lambda g: found.extend(private.backward_pass_runs(each.grad_fn) for each in (left, right)))
    torch.autograd.grad(product, [x])
    assert found == [True, False]
    with pytest.raises(RuntimeError):
        private.backward_pass_runs(left.grad_fn)  # no pass is running


def saved_tensors_hooks():
    """Also of `push_` and `pop_`, which change the same stack."""
    assert private.top_saved_tensors_hooks(False) is None
    pack, unpack = (lambda x: x), (lambda x: x)
    private.push_saved_tensors_hooks(pack, unpack)
    assert private.top_saved_tensors_hooks(False) == (pack, unpack)
    private.pop_saved_tensors_hooks()
    assert private.top_saved_tensors_hooks(False) is None
    assert private.why_no_saved_tensors_hooks() is None
    with torch.autograd.graph.disable_saved_tensors_hooks("not here"):
        assert private.why_no_saved_tensors_hooks() == "not here"


def backward_keeps_graph():
    assert in_backward(private.backward_keeps_graph, retain_graph=True)
    if hasattr(torch._C._autograd, "_get_current_graph_task_keep_graph"):
        assert not in_backward(private.backward_keeps_graph)


def checkpoint_frame():
    """`checkpoint_behind` finds the run of a checkpoint, the same when it computes again, and what it then calls."""
    found = []

    def region(x):
        found.append(private.checkpoint_behind(private.top_saved_tensors_hooks(False)[0]))
        return x.sin()

    y = checkpoint(region, torch.ones(1, requires_grad=True), use_reentrant=False)
    (frame,) = found
    assert private.CheckpointFrame is not None
    assert isinstance(frame, private.CheckpointFrame)
    called, again = [], frame.recompute_fn
    frame.recompute_fn = lambda *args: (called.append(args), again(*args))
    y.backward()
    assert found == [frame, frame]
    assert called
    assert private.checkpoint_behind(lambda t: t) is None


def checkpoint_hook_name():
    """The name by which `SavedTensors` knows a checkpoint's hook."""
    names = []

    def region(x):
        names.append(private.top_saved_tensors_hooks(False)[0].__qualname__)
        return x.sin()

    checkpoint(region, torch.ones(1, requires_grad=True), use_reentrant=False)
    assert names[0].startswith("_checkpoint_hook")


def sequence_number():
    x = torch.ones(1, requires_grad=True)
    first, second = x * 2, x * 3
    assert private.sequence_number(first.grad_fn) < private.sequence_number(second.grad_fn)
    leaf = first.grad_fn.next_functions[0][0]
    assert private.sequence_number(second.grad_fn) < private.sequence_number(leaf)


def is_fully_sharded():
    """By the classes, which are known once torch.distributed.fsdp has been imported."""
    from torch.distributed import fsdp

    assert not private.is_fully_sharded(torch.nn.Linear(1, 1))
    assert issubclass(fsdp.FullyShardedDataParallel, torch.nn.Module)
    sharded = torch.nn.Linear(1, 1)
    sharded.__class__ = type("Sharded", (fsdp.FSDPModule, torch.nn.Linear), {})  # as fully_shard does
    assert private.is_fully_sharded(sharded)


def in_forward_mode():
    assert not private.in_forward_mode()
    with torch.autograd.forward_ad.dual_level():
        assert private.in_forward_mode()


def backward_function():
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, g):
            return 2 * g

    node = Twice.apply(torch.ones(1, requires_grad=True)).grad_fn
    assert isinstance(node, private.BackwardCFunction)
    assert node._forward_cls is Twice


def storage_reference():
    storage = torch.ones(1).untyped_storage()
    reference = private.StorageWeakRef(storage)
    assert reference.cdata == storage._cdata
    assert not reference.expired()
    del storage
    assert reference.expired()


def dispatch_modes():
    assert private.dispatch_mode_count() == 0
    with Nothing() as mode:
        assert private.dispatch_mode_count() == 1
        assert private.dispatch_modes()[-1] is mode
        assert private.innermost_dispatch_mode() is mode


def function_modes():
    assert private.function_modes() == []
    assert private.function_mode_count() == 0
    with torch.device("cpu"):
        assert private.function_mode_count() == 1
        (mode,) = private.function_modes()
        assert isinstance(mode, private.DeviceContext)


def functorch():
    def is_wrapped(x):
        assert private.functorch_is_active()
        assert private.is_functorch_wrapped(x)
        return x.sum()

    x = torch.ones(2)
    torch.func.grad(is_wrapped)(x)
    assert not private.functorch_is_active()
    assert not private.is_functorch_wrapped(x)


def no_torch_function():
    class Plain(torch.Tensor):
        __torch_function__ = private.no_torch_function

    assert type(torch.ones(1).as_subclass(Plain) + 1) is torch.Tensor


def hooks_on_every_module():
    assert not private.has_hooks_on_every_module()
    for register in (
        nn.modules.module.register_module_forward_hook,
        nn.modules.module.register_module_forward_pre_hook,
        nn.modules.module.register_module_full_backward_hook,
        nn.modules.module.register_module_full_backward_pre_hook,
    ):
        handle = register(lambda *_: None)
        assert private.has_hooks_on_every_module()
        handle.remove()
    assert not private.has_hooks_on_every_module()


def call_is_forward():
    assert private.call_is_forward(nn.Conv2d(1, 1, 1))
    for hooked in (
        lambda module: module.register_forward_hook(lambda *_: None),
        lambda module: module.register_forward_pre_hook(lambda *_: None),
        lambda module: module.register_full_backward_hook(lambda *_: None),
        lambda module: module.register_full_backward_pre_hook(lambda *_: None),
        lambda module: module.compile(),
        lambda module: setattr(module, "forward", lambda x: x),
        lambda module: setattr(module, "_conv_forward", lambda *_: None),
    ):
        module = nn.Conv2d(1, 1, 1)
        hooked(module)
        assert not private.call_is_forward(module)


def module_call():
    frames = []

    class Watching(nn.Module):
        def forward(self):
            frames.append(sys._getframe(1))

    module = Watching()
    module()
    assert frames[0].f_code is private.module_call_code
    assert frames[0].f_locals["self"] is module


def any_convolution():
    assert isinstance(nn.Conv1d(1, 1, 1), private.AnyConvolution)
    assert isinstance(nn.ConvTranspose3d(1, 1, 1), private.AnyConvolution)
    assert not isinstance(nn.Linear(1, 1), private.AnyConvolution)


def torch_spectral_norm():
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2))
    assert type(layer.parametrizations.weight[0]) is private.TorchSpectralNorm


def convolution_forwards():
    for layer, forward in (
        (nn.Conv1d(2, 3, 1), private.conv1d_forward),
        (nn.Conv2d(2, 3, 1), private.conv2d_forward),
        (nn.Conv3d(2, 3, 1), private.conv3d_forward),
    ):
        x = torch.ones(2, 2, *[4] * (layer.weight.ndim - 2))
        torch.testing.assert_close(forward(layer, x, layer.weight, layer.bias), layer(x))


def trees():
    """`tree_flatten`, `tree_unflatten`, `tree_leaves` and `tree_map`."""
    tree = {"a": [1, (2, 3)], "b": 4}
    leaves, structure = private.tree_flatten(tree)
    assert leaves == private.tree_leaves(tree) == [1, 2, 3, 4]
    assert private.tree_unflatten(leaves, structure) == tree
    assert private.tree_map(lambda n: n + 1, tree) == {"a": [2, (3, 4)], "b": 5}


def zero_tensor():
    assert private.is_zero_tensor(torch._efficientzerotensor((2,)))
    assert not private.is_zero_tensor(torch.zeros(2))


def foreach():
    """Operations on lists of tensors, each beside the same for one tensor."""
    a, b = [torch.tensor([1.0, -2.0])], [torch.tensor([3.0, 5.0])]
    assert torch.equal(private.foreach_add(a, b, alpha=2.0)[0], a[0] + 2 * b[0])
    assert torch.equal(private.foreach_mul(a, 3.0)[0], 3 * a[0])
    assert torch.equal(private.foreach_lerp(a, b, 0.5)[0], (a[0] + b[0]) / 2)
    private.foreach_copy_(a, b)
    assert torch.equal(a[0], b[0])
    private.foreach_clamp_min_(a, 4.0)
    private.foreach_clamp_max_(a, 4.5)
    assert a[0].tolist() == [4.0, 4.5]


def compiler():
    """`compiler_backend`, `_backends`, `_settings`, `_errors`, `compile_graph`, `graph_of`, `is_traced`."""
    assert "inductor" in private.compiler_backends()
    assert private.compiler_backend("eager") is not None
    assert private.compiler_backend("no such backend") is None
    settings = private.compiler_settings()
    with settings.patch({"recompile_limit": 3}):
        assert settings.recompile_limit == 3
    errors = private.compiler_errors()
    assert issubclass(errors.FailOnRecompileLimitHit, Exception)
    assert issubclass(errors.TorchDynamoException, RuntimeError)
    traced = []
    graph = private.graph_of(lambda x: traced.append(private.is_traced()) or 2 * x)(torch.ones(3))
    assert traced == [True]
    assert not private.is_traced()
    compiled = private.compile_graph("eager", graph, [torch.ones(3)])
    assert torch.equal(compiled(torch.ones(3)), torch.full([3], 2.0))
    from torch._inductor.scheduler import SchedulerNode  # which `_writes_in_order` mends

    assert all(callable(getattr(SchedulerNode, name)) for name in ("recompute_size_and_body", "set_read_writes"))


def graph_break():
    """Where a graph is broken, two are compiled."""
    graphs = []

    def f(x):
        y = x + 1
        private.break_graph()
        return 2 * y

    compiled = torch.compile(f, backend=lambda graph, _: graphs.append(graph) or graph.forward)
    assert compiled(torch.ones(1)) == 4
    assert len(graphs) == 2


def compiled_modules():
    layer = nn.Linear(2, 2)
    compiled = torch.compile(layer, backend="eager")
    assert private.is_compiled_module(compiled)
    assert private.only_runs_compiled(compiled)
    compiled.forward = layer.forward
    assert private.is_compiled_module(compiled)
    assert not private.only_runs_compiled(compiled)
    assert not private.is_compiled_module(layer)


CHECKS = [
    *(current_backward_pass, current_backward_node, backward_pass_runs, saved_tensors_hooks, backward_keeps_graph),
    *(
        checkpoint_frame,
        checkpoint_hook_name,
        in_forward_mode,
        sequence_number,
        is_fully_sharded,
        backward_function,
        storage_reference,
        dispatch_modes,
        function_modes,
    ),
    *(functorch, no_torch_function, hooks_on_every_module, call_is_forward),
    *(
        module_call,
        any_convolution,
        torch_spectral_norm,
        convolution_forwards,
        trees,
        zero_tensor,
        foreach,
        compiler,
        graph_break,
        compiled_modules,
    ),
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_is_there_and_does_what_it_is_called(check):
    check()


def test_every_private_part_has_a_check():
    source = Path(__file__).read_text()
    borrowed = ("Any", "Callable", "CodeType", "Iterator", "contextlib", "functools", "sys", "weakref")
    names = [name for name in vars(private) if not name.startswith("_") and name not in borrowed]
    modules = ("torch", "nn", "forward_ad", "checkpoint")
    assert not [name for name in names if name not in modules and f"private.{name}" not in source]


def reached(path: Path) -> list[str]:
    """The private names of PyTorch that a file reads, as attributes of torch's modules and by import."""
    tree = ast.parse(path.read_text())
    found, roots = [], {"torch"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch":
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name for name in names if any(is_private(part) for part in name.split("."))]
            roots |= {alias.asname or alias.name for alias in node.names if alias.name.islower()}
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.startswith("torch._")]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            owner = ast.unparse(node.value)
            if owner.split(".")[0] in roots and "(" not in owner:
                found.append(f"{owner}.{node.attr}")
    return found


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


FILES = sorted(
    path
    for path in (ROOT / "fastgan").rglob("*.py")
    if path.name != "_torch_private.py" and path.relative_to(ROOT / "fastgan").parts[0] != "train"
)


def test_no_other_file_reaches_for_a_private_part():
    assert {str(path): found for path in FILES if (found := reached(path))} == {}


def test_a_part_that_is_gone_is_named_when_it_is_needed():
    gone = private._part(torch.overrides, "_no_such_function")
    with pytest.raises(RuntimeError, match=r"fastgan needs torch\.overrides\._no_such_function, which PyTorch "):
        gone()
