"""Every op inside PyTorch's own machinery: operator checks, torch.compile, threads, determinism, memory formats."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from fastgan import BackendError, backend, backends
from fastgan.native import fills_its_memory
from fastgan.ops._common.layout import memory_order
from tests.ops.cases import INTERPRETING, compiled_cases, derivatives, draw_weights, leaves, one_of_each_kind
from tests.rotation import in_turn

pytestmark = pytest.mark.usefixtures("other_default_dtype")


def both_shapes(case) -> list:
    """The case compiled for fixed and for symbolic sizes."""
    ids = {False: "static", True: "dynamic"}
    return in_turn(
        [pytest.param(*case.values, dynamic, marks=case.marks, id=f"{case.id}-{ids[dynamic]}") for dynamic in ids],
        case.id,
    )


class Recorder(TorchDispatchMode):
    """Keeps the arguments of every private fastgan operator that is called."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "fastgan":
            self.calls.append((function, args))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("case", compiled_cases())
def test_operators_pass_opcheck(case, generator):
    """Schemas tell the truth, the fake implementation gives the same metadata, and nothing depends on real data."""
    with Recorder() as making, backend(case.backend):  # what a sample holds may come from an operator of the op's own
        samples = case.samples(torch.float32, generator)
    recorders = [making]
    for sample in one_of_each_kind(samples) if INTERPRETING else samples:
        with Recorder() as recorder:
            derivatives(
                lambda ts, s=sample: case.call(ts, s.kwargs), leaves(sample), draw_weights(case, sample, generator)
            )
        # They may be one operator: the gradient of a linear op can be the op itself, with other arguments.
        assert len(recorder.calls) >= 2, f"{sample.label}: expected forward and grad at least, saw {recorder.calls}"
        recorders.append(recorder)
    calls = {checked_once(function, args): (function, args) for r in recorders for function, args in r.calls}
    for function, args in calls.values():
        torch.library.opcheck(function, tree_map_only(torch.Tensor, torch.Tensor.detach, args))


def checked_once(function, args) -> str:
    """What tells calls apart to opcheck: which tensors are given and their memory order; not sizes nor constants."""

    def kind(t):
        return t.ndim, t.numel() == 0, memory_order(t) if fills_its_memory(t) else "strided"

    def described(a):
        if isinstance(a, list | tuple):
            return [described(x) for x in a if x is None or isinstance(x, torch.Tensor)]
        return kind(a) if isinstance(a, torch.Tensor) else a if a is None or isinstance(a, int) else type(a)

    return f"{function} {described(args)}"


@pytest.mark.skipif(INTERPRETING, reason="the interpreter cannot be traced")
@pytest.mark.parametrize(("case", "dynamic"), [shapes for case in compiled_cases() for shapes in both_shapes(case)])
def test_torch_compile_fullgraph_forward_and_backward(case, dynamic, generator):
    compiled = torch.compile(
        lambda tensors, kwargs: case.spec.function(*tensors, **kwargs),
        fullgraph=True, dynamic=dynamic, backend="aot_eager",
    )  # fmt: skip
    for sample in one_of_each_kind(case.samples(torch.float32, generator))[: 2 if dynamic else 5]:
        torch._dynamo.reset()
        eager, traced = leaves(sample), leaves(sample)
        with backend(case.backend):
            y, y_compiled = case.spec.function(*eager, **sample.kwargs), compiled(traced, dict(sample.kwargs))
        assert torch.equal(y, y_compiled), sample.label
        weight = torch.randn_like(y)
        y.backward(weight)
        y_compiled.backward(weight)
        for a, b in zip(eager, traced, strict=True):
            if a is not None:  # a bias's gradient is PyTorch's sum, in the memory order that the compiler prefers
                atol = 8 * torch.finfo(a.dtype).eps * a.grad.abs().max().item() if a.numel() else 0
                torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=atol, msg=sample.label)


@pytest.mark.skipif(INTERPRETING, reason="the interpreter cannot be traced")
@pytest.mark.parametrize("case", in_turn(compiled_cases(), "inductor", run=4))
def test_torch_compile_inductor(case, generator):
    torch._dynamo.reset()
    compiled = torch.compile(lambda tensors, kwargs: case.spec.function(*tensors, **kwargs) * 2, fullgraph=True)
    sample = case.samples(torch.float32, generator)[0]
    eager, traced = leaves(sample), leaves(sample)
    with backend(case.backend):
        (case.spec.function(*eager, **sample.kwargs) * 2).square().sum().backward()
        compiled(traced, dict(sample.kwargs)).square().sum().backward()
    for a, b in zip(eager, traced, strict=True):
        if a is not None:
            torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("case", compiled_cases())
def test_results_do_not_depend_on_the_run_or_the_threads(case, generator):
    threads = torch.get_num_threads()
    samples = case.samples(torch.float32, generator)
    samples = one_of_each_kind(samples) if INTERPRETING else samples  # which runs one block after the other
    weights = [draw_weights(case, sample, generator) for sample in samples]
    runs = []
    try:
        counts = (threads, threads) if case.spec.composed or INTERPRETING else (1, threads, max(threads, 2), 3)
        for count in counts:
            torch.set_num_threads(count)
            run = []
            for sample, weight in zip(samples, weights, strict=True):
                run.append(derivatives(lambda ts, s=sample: case.call(ts, s.kwargs), leaves(sample), weight))
            runs.append(run)
    finally:
        torch.set_num_threads(threads)
    for run in runs[1:]:
        for sample, first, other in zip(samples, runs[0], run, strict=True):
            for name in first:
                assert torch.equal(first[name], other[name]), f"{sample.label}: {name}"


@pytest.mark.parametrize("case", compiled_cases())
def test_autocast_leaves_the_dtype_alone(case, generator):
    dtype = torch.bfloat16 if case.supports(torch.bfloat16) else case.widest
    for sample in case.samples(dtype, generator)[:3]:
        expected = case.spec.reference(*sample.tensors, **sample.kwargs).dtype
        with torch.autocast(case.device.type, dtype=torch.bfloat16):
            assert case.call(sample.tensors, sample.kwargs).dtype == expected


@pytest.mark.skipif(INTERPRETING, reason="about the backends that run without the interpreter")
@pytest.mark.parametrize("case", compiled_cases())
def test_forced_backend_never_falls_back(case, generator):
    sample = case.samples(torch.float32, generator)[0]
    for name in backends.BACKENDS:
        reason = backends.unsupported(case.spec, name, case.device.type, torch.float32)
        if reason is None:
            continue
        with pytest.raises(BackendError) as error, backend(name):
            case.spec.function(*sample.tensors, **sample.kwargs)
        assert reason in str(error.value)
        assert case.spec.name in str(error.value)


@pytest.mark.parametrize("case", compiled_cases())
def test_auto_takes_the_first_backend_that_can(case, generator):
    sample = case.samples(torch.float32, generator)[0]
    expected = case.backend
    if INTERPRETING:  # the interpreter is for tests: it runs only where it is asked for
        expected = "cpu" if "cpu" in case.spec.backends else "reference"
    assert backends.select(case.spec.name, sample.tensors[0]) == expected
