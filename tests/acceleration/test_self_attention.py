"""Self-attention blocks of other code bases are recognised by what they compute, and go on computing it."""

import copy
import inspect
import pickle
import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

import fastgan
from fastgan.acceleration import attention_plan, self_attention
from fastgan.penalties import R1
from tests.acceleration.attention_blocks import (
    BLOCKS,
    FAULTS,
    NORMS,
    WRONG,
    BigGan,
    Drawn,
    DroppedOut,
    KeepsItsMatrix,
    OfLayers,
    OverQueries,
    Sagan,
)
from tests.acceleration.zoo import assert_same, derivatives

POOLED = ("biggan", "layers")


@pytest.fixture(autouse=True)
def _of_any_size(monkeypatch):
    """The images of these tests are small."""
    monkeypatch.setattr(self_attention, "FEWEST_PAIRS", 1)


@pytest.fixture
def calls(monkeypatch):
    """Of each call in the place of an original's: whether it pools, and the shape of its image."""
    found, attend = [], self_attention.attend

    def counted(block, plan, x):
        found.append((plan.pooled, tuple(x.shape)))
        return attend(block, plan, x)

    monkeypatch.setattr(self_attention, "attend", counted)
    return found


def images(generator, size=(2, 8, 4, 6), dtype=torch.float64):
    return torch.randn(size, generator=generator, dtype=torch.float64).to(dtype)


def number(block):
    """Its gamma, whatever it is called."""
    (found,) = block._parameters.values()
    return found


def at(block, gamma):
    with torch.no_grad():
        number(block).fill_(gamma)
    return block


def accelerated(block):
    """The block, which is recognised, and a copy of it from before."""
    original = copy.deepcopy(block)
    (row,) = [row for row in fastgan.accelerate(block).rows if row.path == ""]
    assert (row.kind, row.became) == (type(original).__name__, "attention"), row.reason
    return block, original


# --- what is recognised -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.0, 0.8])
@pytest.mark.parametrize("name", BLOCKS)
def test_values_and_two_derivatives_are_those_of_the_original(name, gamma, generator, calls):
    block, original = accelerated(at(BLOCKS[name](8).double(), gamma))
    assert isinstance(block, type(original))
    assert fastgan.accelerate(block).rows[0].reason == "already"
    assert list(block.state_dict()) == list(original.state_dict())
    for size in ((2, 8, 4, 6), (1, 8, 2, 2), (3, 8, 6, 4)):
        x = images(generator, size)
        expected = derivatives(original, x)
        for copied in (block, copy.deepcopy(block), pickle.loads(pickle.dumps(block))):
            calls.clear()
            assert type(copied) is type(block)
            assert_same(derivatives(copied, x), expected)
            assert calls == [(name in POOLED, size)]
    fastgan.restore(block)
    assert type(block) is type(original)
    assert repr(block) == repr(original)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["sagan", "biggan"])
def test_spectral_norms_run_as_ever(name, norm, generator, calls):
    """Several steps of training, whose power iterations go on, and one of evaluation."""
    block, original = accelerated(at(BLOCKS[name](8, NORMS[norm]).double(), 0.8))
    for training in (True, True, False):
        block.train(training), original.train(training)
        x = images(generator)
        assert_same(derivatives(block, x), derivatives(original, x))
        assert_same(dict(block.named_buffers()), dict(original.named_buffers()))
    assert len(calls) == 3
    fastgan.restore(block)
    block.load_state_dict(original.state_dict())


def test_random_blocks_have_the_originals_derivatives(seed, generator, calls):
    rng = random.Random(seed)
    for _ in range(25):
        conv = NORMS[rng.choice(list(NORMS))]
        block, original = accelerated(at(Drawn(rng, conv).double(), rng.choice((0.0, -0.6, 1.1))))
        channels = getattr(block, block.names[0])
        x = images(generator, (rng.randint(1, 3), attention_plan.convolution_in(channels).in_channels, 4, 6))
        calls.clear()
        assert_same(derivatives(block, x), derivatives(original, x))
        assert len(calls) == 1
        assert_same(derivatives(block.eval(), x), derivatives(original.eval(), x))
        fastgan.restore(block)
        assert [type(m) for m in block.modules()] == [type(m) for m in original.modules()]


@pytest.mark.parametrize("fault", FAULTS)
def test_random_blocks_with_a_fault_are_left(fault, seed, generator):
    rng = random.Random(seed)
    for _ in range(5):
        block = Drawn(rng, nn.Conv2d, fault)
        (row,) = [row for row in fastgan.accelerate(block).rows if row.path == ""]
        assert row.became is None
        assert "looks like self-attention but computes something else" in row.reason
        assert type(block) is Drawn


@pytest.mark.parametrize("name", WRONG)
def test_a_block_that_computes_something_else_is_left(name, generator):
    kind, reason = WRONG[name]
    block = kind(8)
    rows = [row for row in fastgan.accelerate(nn.Sequential(block)).rows if row.path == "0"]
    assert rows[0].became is None
    assert reason in rows[0].reason
    assert self_attention._OURS not in vars(attention_plan.torch_class(block))
    assert attention_plan.torch_class(block) is kind


def test_a_block_that_is_left_has_its_functions_replaced():
    """OfWeights convolves by itself: fastgan's convolution does, and the report has both."""
    rows = [row for row in fastgan.accelerate(WRONG["weights"][0](8)).rows if row.path == ""]
    assert [row.became for row in rows] == [None, "fastgan's conv2d in its calls"]


def test_recognition_cannot_be_fooled_from_outside(seed):
    """Where our forward would leave everything to the original, which agrees with itself."""

    class Mode(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

    for context in (Mode(), torch.autocast("cpu", torch.bfloat16), torch.no_grad(), torch.device("meta")):
        wrong, right = OverQueries(8), Sagan(8)
        with context:
            assert fastgan.accelerate(wrong).rows[0].became is None
            assert fastgan.accelerate(right).rows[0].became == "attention"


def test_a_forced_backend_is_left_alone(generator):
    with fastgan.backend("reference"):
        block, original = accelerated(at(Sagan(8), 0.5))
        x = images(generator, dtype=torch.float32)
        assert torch.equal(block(x), original(x))
        assert not fastgan.accelerate(OverQueries(8)).rows[0].became


# --- what recognition leaves as it was --------------------------------------------------------------------------------


def test_recognition_runs_no_hook_and_no_norm_and_draws_nothing(generator):
    seen = []
    block = BigGan(8, NORMS["hook"])
    for module in (block, block.theta, block.o):
        module.register_forward_hook(lambda module, args, y: seen.append(type(module)))
        module.register_forward_pre_hook(lambda module, args: seen.append(type(module)))
        module.register_full_backward_hook(lambda *args: seen.append(args))
    before = {name: t.clone() for name, t in block.state_dict().items()}
    state = torch.get_rng_state()
    block, _ = accelerated(block)
    assert not seen
    assert torch.equal(state, torch.get_rng_state())
    assert_same(block.state_dict(), before, rtol=0)
    block(images(generator, dtype=torch.float32))
    assert len(seen) == 6


def test_hooks_on_the_block_and_its_convolutions_have_their_effect(generator, calls):
    block = at(BigGan(8).double(), 0.8)
    block.theta.register_forward_hook(lambda module, args, y: y * 1.5)
    block.g.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    block.o.register_forward_hook(lambda module, args, y: y.sin())
    block.register_forward_hook(lambda module, args, y: y * 0.7)
    block, original = accelerated(block)
    x = images(generator)
    assert_same(derivatives(block, x), derivatives(original, x))
    block.phi.register_forward_hook(lambda module, args, y: -y)
    original.phi.register_forward_hook(lambda module, args, y: -y)
    assert_same(derivatives(block, x), derivatives(original, x))
    assert len(calls) == 2


def test_who_looks_at_the_softmax_sees_it(generator, calls):
    block, original = accelerated(at(OfLayers(8).double(), 0.8))
    x, seen = images(generator), []
    handle = block.softmax.register_forward_hook(lambda module, args, y: seen.append(y) or y * 0.5)
    found = block(x)
    handle.remove()
    assert seen[0].shape == (2, 24, 6)
    assert not calls
    assert not torch.allclose(found, original(x))
    torch.testing.assert_close(block(x), original(x), rtol=1e-11, atol=1e-11)
    everywhere = nn.modules.module.register_module_forward_hook(lambda module, args, y: seen.append(module))
    block(x)
    everywhere.remove()
    assert block.softmax in seen
    assert len(calls) == 1


def test_dropout_that_is_switched_on_later(generator, calls):
    block = at(DroppedOut(8), 0.8)
    block.p = 0.0
    block, original = accelerated(block)
    x = images(generator, dtype=torch.float32)
    torch.testing.assert_close(block(x), original(x))
    block.p = original.p = 0.5
    torch.manual_seed(0), calls.clear()
    found = block(x)
    torch.manual_seed(0)
    assert torch.equal(found, original(x))
    assert not calls


def softmax_over_queries(block):
    block.softmax.dim = 1


def another_softmax(block):
    block.softmax = nn.Softmax(dim=1)


def pools_means(block):
    block.pool = nn.AvgPool2d(2)


def another_attribute(block):
    block.temperature = 2.0


def wider(block):
    block.conv_q, block.conv_k = (nn.Conv2d(8, 4, 1).double().requires_grad_() for _ in range(2))


def other_forward(block):
    block.forward = lambda x: x * 2


@pytest.mark.parametrize(
    "change", [softmax_over_queries, another_softmax, pools_means, another_attribute, wider, other_forward]
)
def test_what_changes_later_has_its_effect(change, generator, calls):
    class Tempered(OfLayers):
        def forward(self, x):
            return super().forward(x) * getattr(self, "temperature", 1.0)

    block, original = accelerated(at(Tempered(8).double(), 0.8))
    torch.manual_seed(0), change(block)
    torch.manual_seed(0), change(original)
    x = images(generator)
    torch.testing.assert_close(block(x), original(x), rtol=1e-11, atol=1e-11)
    assert not calls


def test_another_convolution_of_the_same_kind_is_called(generator, calls):
    block, original = accelerated(at(Sagan(8).double(), 0.8))
    block.key_conv = original.key_conv = NORMS["biggan"](8, 2, 1).double().eval()
    x = images(generator)
    torch.testing.assert_close(block(x), original(x), rtol=1e-11, atol=1e-11)
    assert len(calls) == 1


def test_a_block_that_has_kept_its_matrix_before(generator):
    block = KeepsItsMatrix(8)
    block(images(generator, dtype=torch.float32))
    assert "changes its attributes as it runs" in fastgan.accelerate(block).rows[0].reason
    assert block.attention.shape == (2, 24, 24)


# --- calls that stay the original's -----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_autocast_compilers_and_tracers_run_the_original(generator, calls):
    block, original = accelerated(at(BigGan(8), 0.8))
    x = images(generator, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(block(x), original(x))
    assert torch.equal(torch.compile(block, fullgraph=True, backend="aot_eager")(x), original(x))
    assert torch.equal(torch.func.functional_call(block, dict(block.named_parameters()), (x,)), block(x))
    torch.testing.assert_close(torch.func.vmap(block)(x[None])[0], original(x))
    torch.testing.assert_close(torch.fx.symbolic_trace(block, {"y": None})(x), original(x))
    torch.testing.assert_close(torch.jit.trace(block, x, check_trace=False)(x), original(x))
    assert calls == [(True, (2, 8, 4, 6))] * 2  # functional_call's, and its neighbour's


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_no_less_exact(dtype, generator, calls):
    """The scores and weights are not rounded to it."""
    block, original = accelerated(at(BigGan(8), 0.8))
    x = images(generator, dtype=dtype)
    found, theirs = block.to(dtype)(x).double(), original.to(dtype)(x).double()
    exact = original.double()(x.double())
    rounding = torch.finfo(dtype).eps * float(exact.detach().abs().max())
    assert float((found - exact).detach().abs().max()) <= float((theirs - exact).detach().abs().max()) + rounding
    assert len(calls) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_script_is_made_of_the_code_that_was_written(generator, tmp_path):
    block, original = accelerated(at(OfLayers(8), 0.8))
    torch.jit.save(torch.jit.script(nn.Sequential(block)), tmp_path / "block.pt")
    x = images(generator, dtype=torch.float32)
    assert torch.equal(torch.jit.load(tmp_path / "block.pt")(x), original(x))
    assert inspect.signature(block.forward) == inspect.signature(original.forward)


def test_further_arguments_and_names_go_to_the_original(generator, calls):
    block, original = accelerated(at(BigGan(8), 0.8))
    x = images(generator, dtype=torch.float32)
    assert torch.equal(block(x=x), original(x))
    assert torch.equal(block(x, None), original(x))
    with pytest.raises(AssertionError, match="takes no labels"):
        block(x, x)
    assert not calls


@pytest.mark.parametrize("size", [(2, 8, 5, 6), (2, 8, 4, 3), (1, 8, 1, 4)])
def test_images_that_a_pooled_block_does_not_take_are_its_errors(size, generator, calls):
    block, original = accelerated(BigGan(8))
    x = images(generator, size, torch.float32)
    for each in (block, original):
        with pytest.raises(RuntimeError):
            each(x)
    assert not calls


def test_images_of_one_row_and_empty_batches_are_the_originals(generator, calls):
    block, original = accelerated(at(Sagan(8), 0.8))
    for size in ((2, 8, 1, 5), (2, 8, 7, 1)):
        x = images(generator, size, torch.float32)
        assert torch.equal(block(x), original(x))
    assert not calls
    for x in (torch.zeros(2, 8, 4), torch.zeros(2, 8, 4, 4, dtype=torch.int64), torch.zeros(2, 6, 4, 4)):
        with pytest.raises((RuntimeError, ValueError)) as expected:
            original(x)
        with pytest.raises((RuntimeError, ValueError)) as found:
            block(x)
        assert str(found.value) == str(expected.value)


def test_small_images_run_the_original(generator, monkeypatch, calls):
    monkeypatch.undo()
    block, original = accelerated(at(BigGan(8), 0.8))
    x = images(generator, (1, 8, 20, 20), torch.float32)
    assert torch.equal(block(x), original(x))
    monkeypatch.setattr(self_attention, "attend", lambda *args: "ours")
    assert block(images(generator, (1, 8, 24, 24), torch.float32)) == "ours"


# --- in models and training -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BLOCKS)
def test_results_and_gradients_lie_in_memory_as_the_originals(name, generator, calls):
    block, original = accelerated(at(BLOCKS[name](8), 0.8))
    for order in (torch.contiguous_format, torch.channels_last):
        strides = []
        for each in (block, original):
            x = images(generator, (2, 8, 4, 6), torch.float32).contiguous(memory_format=order).requires_grad_()
            y = each(x)
            (g,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
            strides.append((y.stride(), g.stride()))
        assert strides[0] == strides[1], order
    assert len(calls) == 2


class Critic(nn.Module):
    def __init__(self, block):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.Tanh(),
            block,
            NORMS["hook"](8, 8, 3, padding=1),
            nn.Tanh(),
        )
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3))).squeeze(1)


@pytest.mark.parametrize("method", ["double_backward", "auto"])
@pytest.mark.parametrize("name", ["sagan", "biggan"])
def test_critic_loss_is_the_originals(name, method, generator):
    model = Critic(at(BLOCKS[name](8, NORMS["parametrization"]), 0.8)).double()
    original = copy.deepcopy(model)
    assert "attention" in [row.became for row in fastgan.accelerate(model).rows]
    real, fake = images(generator, (3, 3, 4, 4)), images(generator, (3, 3, 4, 4))
    for each, how in ((model, method), (original, "double_backward")):
        fastgan.critic_loss(each, real, fake, penalties=(R1(2.0),), method=how).backward()
    gradients = [{n: p.grad for n, p in m.named_parameters()} for m in (model, original)]
    assert_same(*gradients, rtol=1e-9)


def test_training_with_checkpoints_goes_on_alike(generator, calls):
    block, original = accelerated(at(Sagan(8).double(), 0.1))
    optimizers = [torch.optim.Adam(each.parameters(), 0.05) for each in (block, original)]
    for _ in range(4):
        x = images(generator)
        for each, optimizer in zip((block, original), optimizers, strict=True):
            optimizer.zero_grad()
            checkpoint(each, x, use_reentrant=False).square().mean().backward()
            optimizer.step()
    assert_same(dict(block.named_parameters()), dict(original.named_parameters()), rtol=1e-6)
    assert len(calls) == 8


def test_a_third_derivative_raises(generator):
    block, _ = accelerated(at(Sagan(8).double(), 0.8))
    x = images(generator, (1, 8, 2, 2)).requires_grad_()
    value = block(x).sin().sum()
    for _ in range(2):
        (g,) = torch.autograd.grad(value, x, create_graph=True)
        value = g.square().sum()
    with pytest.raises(RuntimeError, match="has no third derivative"):
        torch.autograd.grad(value, x)


def test_a_block_in_many_places_of_a_model(generator):
    shared = at(Sagan(4).double(), 0.8)
    model = nn.Sequential(shared, nn.ReLU(), shared, nn.ModuleDict({"a": at(BigGan(4).double(), 0.5)})["a"])
    original = copy.deepcopy(model)
    report = fastgan.accelerate(model)
    assert [(row.path, row.became) for row in report.rows if row.became == "attention"] == [
        ("0", "attention"),
        ("3", "attention"),
    ]
    x = images(generator, (2, 4, 4, 4))
    assert_same(derivatives(model, x), derivatives(original, x))
    assert F.mse_loss(model(x), original(x)) < 1e-20
