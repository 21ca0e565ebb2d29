"""`accelerate` of layers and models that call torch's functions themselves."""

import copy
import io
import pickle
import random
import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode

import fastgan
from benchmarks.functional_critics import GroupedCritic, NormalisedCritic, StyleGAN2Critic
from benchmarks.penalties.count import convolutions
from fastgan._torch_private import function_mode_count
from fastgan.acceleration import functional
from fastgan.acceleration.substitute import is_around
from fastgan.penalties import R1, R2
from tests.acceleration.functional_layers import (
    LAYERS,
    Checkpointed,
    Critic,
    Offloaded,
    OwnWeight,
    Slopes,
    Standardised,
    Twice,
    critic,
    random_critic,
)
from tests.acceleration.zoo import assert_same, derivatives

CRITICS = {
    "r3gan": lambda: GroupedCritic(8, 4),
    "stylegan2": lambda: StyleGAN2Critic(4, 2),
    "normalised": lambda: NormalisedCritic(6),
}


def both(make, dtype=torch.float64):
    """A model that was accelerated, and a copy from before."""
    model = make().to(dtype)
    original = copy.deepcopy(model)
    report = fastgan.accelerate(model)
    assert any("in its calls" in (row.became or "") for row in report.rows)
    return model, original


def images(generator, size=8, batch=2, dtype=torch.float64):
    return torch.randn(batch, 3, size, size, generator=generator, dtype=torch.float64).to(dtype)


# --- the same numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
def test_every_derivative_is_that_of_the_original(name, generator):
    model, original = both(lambda: critic(name))
    x = images(generator)
    for _ in range(2):
        assert_same(derivatives(model, x), derivatives(original, x))
    assert_same(model.state_dict(), original.state_dict())
    assert function_mode_count() == 0


@pytest.mark.parametrize("name", CRITICS)
def test_every_derivative_of_a_critic_is_that_of_the_original(name, generator):
    model, original = both(CRITICS[name])
    x = images(generator, 32)
    assert_same(derivatives(model, x), derivatives(original, x))


def test_random_models_have_the_originals_derivatives_and_copies(seed, generator):
    rng = random.Random(seed)
    for _ in range(12):
        # A checkpoint's second run would find other buffers of theirs; fastgan's spectral norm remembers the first's.
        model, original = both(lambda: random_critic(rng).eval())
        x = images(generator)
        assert_same(derivatives(model, x), derivatives(original, x))
        copied = copy.deepcopy(model)
        assert [type(m) for m in copied.modules()] == [type(m) for m in model.modules()]
        fastgan.restore(model)
        assert [type(m) for m in model.modules()] == [type(m) for m in original.modules()]
        expected = derivatives(original, x)
        assert_same(derivatives(copied, x), expected)
        assert_same(derivatives(model, x), expected)


@pytest.mark.parametrize("name", LAYERS)
def test_values_and_first_derivatives_have_torchs_bits(name, generator):
    """Of images that no kernel of fastgan's takes."""
    model, original = both(lambda: critic(name), torch.float32)
    model.eval(), original.eval()
    x = images(generator, dtype=torch.float32)
    results = []
    for each in (model, original):
        point = x.clone().requires_grad_()
        y = each(point)
        results.append([y, *torch.autograd.grad(y.sum(), [point, *each.parameters()])])
    if name in ("mimicry", "biggan"):  # whose norm is fastgan's
        torch.testing.assert_close(*results)
    else:
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", CRITICS)
def test_numbers_are_those_of_accelerated(name, autocast, generator):
    model, original = both(CRITICS[name], torch.float32)
    x = images(generator, 32, 4, torch.float32)
    results = []
    for each in (model, original):
        point = x.clone().requires_grad_()
        with fastgan.accelerated(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            y = each(point)
        (g,) = torch.autograd.grad(y.float().sum(), point, create_graph=True)
        found = torch.autograd.grad(g.square().sum(), list(each.parameters()), allow_unused=True)
        results.append([y, g, *(t for t in found if t is not None)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        assert model(x).dtype == original(x).dtype


def test_the_double_backward_makes_fewer_convolutions(generator):
    model, original = both(CRITICS["r3gan"])
    x = images(generator, 32)
    counts = [sum(convolutions(lambda each=each: derivatives(each, x))) for each in (model, original)]
    assert counts[0] < counts[1]


@pytest.mark.parametrize("method", ["one_pass", "double_backward"])
@pytest.mark.parametrize("name", ["r3gan", "normalised"])
def test_critic_loss_is_that_of_the_original(name, method, generator):
    results = []
    x = images(generator, 32)
    for each in both(CRITICS[name]):
        each.eval()
        total = fastgan.critic_loss(each, x, x.flip(0) * 0.5, penalties=(R1(2.0), R2(1.0)), method=method)
        assert total.method == method
        total.backward()
        results.append({"total": total.detach(), **{n: p.grad for n, p in each.named_parameters()}})
    assert_same(*results)


# --- only classes change --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "parametrized"])  # which torch does not pickle
def test_classes_alone_change_and_copies_keep_them(name, generator):
    model = critic(name)
    if name == "hooked":
        model.body._forward_pre_hooks.clear()  # a lambda
    original = copy.deepcopy(model)
    text, keys = repr(model), list(model.state_dict())
    fastgan.accelerate(model)
    assert (repr(model), list(model.state_dict())) == (text, keys)
    kinds = [type(m) for m in model.modules()]
    for a, b in zip(model.modules(), original.modules(), strict=True):
        assert isinstance(a, type(b))
        assert a.__dict__.keys() == b.__dict__.keys()
    again = fastgan.accelerate(model)
    assert [type(m) for m in model.modules()] == kinds
    assert all(row.reason == "already" for row in again.replaced)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    x = images(generator, dtype=torch.float32)
    model.eval(), original.eval()
    expected = original(x)
    for found in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(file, weights_only=False)):
        assert [type(m) for m in found.modules()] == kinds
        torch.testing.assert_close(found.eval()(x), expected)
    fastgan.restore(model)
    assert [type(m) for m in model.modules()] == [type(m) for m in original.modules()]


def test_a_parametrized_subclass_can_be_restored_and_its_parametrization_removed(generator):
    model, original = both(lambda: critic("parametrized"))
    nn.utils.parametrize.remove_parametrizations(model.body, "weight")
    assert is_around(model.body)
    fastgan.restore(model)
    assert type(model.body) is Standardised
    x = images(generator)
    torch.testing.assert_close(model(x), original(x))


class Counting(functional._Inside):
    entered = 0

    def __enter__(self):
        Counting.entered += 1
        return super().__enter__()


def test_the_outermost_module_enters_the_mode_for_all_in_it(generator, monkeypatch):
    model, _ = both(CRITICS["r3gan"])
    monkeypatch.setattr(functional, "_Inside", Counting)
    x = images(generator, 32)
    for body, modes in ((model, 1), (lambda x: [block(model.stem(x)) for block in model.blocks], 24)):
        Counting.entered = 0
        body(x)
        assert Counting.entered == modes


def test_an_exception_leaves_no_mode_behind():
    class Raises(OwnWeight):
        def forward(self, x):
            raise ValueError(str(super().forward(x).shape))

    model, _ = both(lambda: Critic(Raises(4, 4)))
    for _ in range(2):
        with pytest.raises(ValueError, match=r"torch.Size\(\[2, 4, 8, 8\]\)"):
            model(torch.randn(2, 3, 8, 8, dtype=torch.float64))
        assert function_mode_count() == 0


# --- surroundings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["own weight", "subclass", "twice", "super", "biggan"])
def test_torch_compile_of_the_accelerated_model(name, generator):
    model, original = both(lambda: critic(name))
    model.eval(), original.eval()
    torch._dynamo.reset()
    x, results = images(generator), []
    for each in (torch.compile(model, fullgraph=True, backend="aot_eager"), original):
        point = x.clone().requires_grad_()
        y = each(point)
        results.append({"y": y.detach(), "x": torch.autograd.grad(y.square().sum(), point)[0]})
    assert_same(*results)


def test_a_compiled_module_inside(generator):
    model, original = both(lambda: critic("twice"))
    model.body.compile(fullgraph=True, backend="aot_eager")
    model.body.inner = torch.compile(model.body.inner, fullgraph=True, backend="aot_eager")
    x = images(generator)
    torch.testing.assert_close(model(x), original(x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["own weight", "subclass", "twice", "blur", "biggan"])
def test_functions_of_torch_that_need_torchs_own_operations(name, generator):
    model, original = both(lambda: critic(name))
    model.eval(), original.eval()
    x = images(generator)
    loss = lambda m: lambda x: m(x[None]).sum()  # noqa: E731
    torch.testing.assert_close(
        *(torch.func.vmap(torch.func.grad(loss(m)))(x) if name != "twice" else m(x) for m in (model, original))
    )
    torch.testing.assert_close(*(torch.func.jvp(m, (x,), (x.flip(0),)) for m in (model, original)))
    torch.testing.assert_close(torch.jit.trace(model, x)(x), original(x))
    weights = {n: p * 2 for n, p in model.named_parameters()}
    torch.testing.assert_close(*(torch.func.functional_call(m, weights, x) for m in (model, original)))
    tangents = []
    for each in (model, original):
        with forward_ad.dual_level():
            tangents.append(forward_ad.unpack_dual(each(forward_ad.make_dual(x, x.flip(0)))).tangent)
    torch.testing.assert_close(*tangents)


class Scriptable(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3, 3, 3) * 0.3)

    def forward(self, x):
        return F.leaky_relu(F.conv2d(x, self.weight), 0.2)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripts_and_symbolic_traces(generator):
    model, original = both(lambda: nn.Sequential(Scriptable(), nn.ReLU()))
    x = images(generator)
    kinds = [type(m) for m in model.modules()]
    for made in (torch.jit.script(model), torch.fx.symbolic_trace(model), nn.DataParallel(model)):
        torch.testing.assert_close(made(x), original(x))
    assert [type(m) for m in model.modules()] == kinds


def nodes(y):
    """The names of the nodes of the graph of y."""
    found, waiting = set(), [y.grad_fn]
    while waiting:
        node = waiting.pop()
        found.add(node.name())
        waiting += [following for following, _ in node.next_functions if following is not None]
    return found


class Watches(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.seen.add(func)
        return func(*args, **(kwargs or {}))


def test_another_function_mode_sees_torchs_functions(generator):
    model, _ = both(lambda: critic("own weight"))
    with Watches() as mode:
        y = model(images(generator))
    assert {F.conv2d, F.leaky_relu} <= mode.seen
    assert "ConvolutionBackward0" in nodes(y)
    assert "_PiecewiseBackward" not in nodes(y)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # of a checkpoint inside another
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpoints(use_reentrant, generator):
    """Of a method, which is run again without its module's call, and of modules, in and outside of the model."""
    results = []
    x = images(generator)
    for each in both(lambda: Critic(Checkpointed(Twice(Slopes(4, 4)), use_reentrant))):
        point = x.clone().requires_grad_()
        y = torch.utils.checkpoint.checkpoint(each, point, use_reentrant=use_reentrant).square().sum()
        y.backward()
        results.append({"y": y.detach(), "x": point.grad, **{n: p.grad for n, p in each.named_parameters()}})
    assert_same(*results)


def test_what_a_checkpoint_runs_again_is_torchs_the_first_time_too(generator):
    """And so is what saves its tensors in another way of its own; the module that is called there is not."""
    model, _ = both(lambda: nn.Sequential(Offloaded()))
    found = nodes(model(torch.randn(2, 4, 8, 8, generator=generator, dtype=torch.float64)))
    assert {"LeakyReluBackward0", "ConvolutionBackward", "_PiecewiseBackward"} <= found
    assert "ConvolutionBackward0" not in found


def test_threads_at_the_same_time(generator):
    model, original = both(lambda: critic("recursive"))
    x = images(generator)
    found: list[torch.Tensor] = []
    threads = [threading.Thread(target=lambda: found.append(model(x))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(torch.equal(y, original(x)) for y in found)
