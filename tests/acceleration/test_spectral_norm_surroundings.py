"""Spectral norms and what PyTorch does with a model: replicas, threads, transforms, compilers, checkpoints, copies."""

import copy
import gc
import io
import threading
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.parallel import replicate
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

import fastgan
from fastgan.nn import spectral_norm_, spectral_norm_checkpoints
from tests.acceleration.normalised_layers import KINDS

ONE = [kind for kind in KINDS if kind != "mixed"]


class Critic(nn.Module):
    """Two heads on a body; a forward pass uses one of them, or both."""

    def __init__(self, linear):
        super().__init__()
        self.body, self.left, self.right = linear(4, 5), linear(5, 3), linear(5, 2)

    def forward(self, x, used=("left", "right")):
        h = torch.tanh(self.body(x))
        return [getattr(self, name)(h) for name in used]


def pair(kind):
    theirs = Critic(KINDS[kind][1]).double()
    ours = copy.deepcopy(theirs)
    fastgan.accelerate(ours)
    return theirs, ours


def draw(generator, *shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def total(outputs):
    return sum(y.square().sum() for y in outputs)


def assert_same_state(theirs, ours):
    for (name, a), b in zip(theirs.state_dict().items(), ours.state_dict().values(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-10, atol=1e-11, msg=lambda m, name=name: f"{name}: {m}")


def assert_same_gradients(theirs, ours):
    for (name, a), b in zip(theirs.named_parameters(), ours.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), name
        if a.grad is not None:
            torch.testing.assert_close(b.grad, a.grad, rtol=1e-9, atol=1e-11, msg=lambda m, name=name: f"{name}: {m}")


# --- graphs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ONE)
def test_one_backward_pass_for_each_output(kind, generator):
    """Each branch has its own; what they share raises where PyTorch raises."""
    theirs, ours = pair(kind)
    x = draw(generator, 6, 4)
    for model in (theirs, ours):
        h = torch.tanh(model.body(x)).detach()
        first, second = model.left(h).square().sum(), model.right(h).square().sum()
        first.backward()
        second.backward()
    assert_same_gradients(theirs, ours)
    for model in (theirs, ours):
        left, right = model(x)
        left.sum().backward()
        with pytest.raises(RuntimeError, match="backward through the graph a second time"):
            right.sum().backward()
        model.zero_grad()
        left, right = model(x)
        left.sum().backward(retain_graph=True)
        right.sum().backward()
    assert_same_gradients(theirs, ours)


@pytest.mark.parametrize("kind", ONE)
def test_a_weight_used_by_two_graphs_raises_as_pytorchs(kind, generator):
    theirs, ours = pair(kind)
    for model in (theirs, ours):
        layer = model.left
        method = getattr(layer, "sn_weights", None) or getattr(layer, "W_", None)
        weight = method() if method else layer.weight
        if weight.grad_fn is None:  # torch's hook makes it when the layer is called
            layer(draw(generator, 1, 5))
            weight = layer.weight
        first, second = weight.square().sum(), weight.sin().sum()
        first.backward()
        with pytest.raises(RuntimeError, match="backward through the graph a second time"):
            second.backward()


@pytest.mark.parametrize("kind", ONE)
def test_weight_decay_leaves_the_parameters_of_unused_layers_alone(kind, generator):
    theirs, ours = pair(kind)
    for model in (theirs, ours):
        optimiser = torch.optim.AdamW(model.parameters(), 0.1, weight_decay=0.5)
        for used in (("left",), ("left", "right"), ("right",)):
            optimiser.zero_grad()
            total(model(draw(torch.Generator().manual_seed(3), 6, 4), used)).backward()
            optimiser.step()
    assert_same_state(theirs, ours)
    theirs.zero_grad(), ours.zero_grad()
    for model in (theirs, ours):
        total(model(draw(torch.Generator().manual_seed(4), 6, 4), ("left",))).backward()
    assert ours.get_submodule("right").bias.grad is None
    assert_same_gradients(theirs, ours)


@pytest.mark.parametrize("kind", ONE)
def test_a_gradient_of_one_layer_leaves_the_graph_of_another(kind, generator):
    """autograd.grad for one head's parameters runs, and frees, nothing of the other's graph."""
    theirs, ours = pair(kind)
    x = draw(generator, 6, 4)
    results = []
    for model in (theirs, ours):
        h = torch.tanh(model.body(x)).detach()
        left, right = model.left(h).square().sum(), model.right(h).square().sum()
        of_left = torch.autograd.grad(left + right, [p for p in model.left.parameters() if p.ndim == 2])
        right.backward()
        results.append([*of_left, *(p.grad for p in model.right.parameters())])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", ONE)
def test_a_weight_changed_before_backward_raises(kind, generator):
    for model in pair(kind):
        loss = total(model(draw(generator, 6, 4)))
        with torch.no_grad():
            next(p for p in model.left.parameters() if p.ndim == 2).mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_the_normalised_weight_may_be_changed_in_place(generator):
    theirs, ours = pair("parametrization")
    for model in (theirs, ours):
        weight = model.left.weight
        weight.mul_(3)
        weight.square().sum().backward()
    assert_same_gradients(theirs, ours)


def test_frozen_weights_get_no_graph(generator):
    _, ours = pair("parametrization")
    ours.left.requires_grad_(False)
    assert not ours.left.weight.requires_grad
    ours(draw(generator, 6, 4), ("left",))[0].sum().backward()
    assert ours.left.parametrizations.weight.original.grad is None
    assert ours.body.parametrizations.weight.original.grad is not None


# --- replicas and threads -------------------------------------------------------------------------------------------


@pytest.fixture
def two_devices(monkeypatch):
    """torch.nn.parallel.replicate without GPUs: the first replica has the model's own memory, the second a copy."""
    module = __import__("sys").modules["torch.nn.parallel.replicate"]

    def broadcast(tensors, devices, detach=False):
        if detach:
            return [list(tensors), [t.detach().clone() for t in tensors]]
        return [[t.view_as(t) for t in tensors], [t.clone() for t in tensors]]

    monkeypatch.setattr(module, "_broadcast_coalesced_reshape", broadcast)
    monkeypatch.setattr(module, "_get_device_index", lambda device, *_: device)


@pytest.mark.parametrize("kind", ONE)
def test_replicas_of_data_parallel(kind, two_devices, generator):
    """Each replica computes its own weights; the vectors of the first are the model's."""
    theirs, ours = pair(kind)
    for used in (("left", "right"), ("left",), ("right", "left")):
        x = draw(generator, 6, 4)
        for model in (theirs, ours):
            model.zero_grad()
            parts = [replica(part, used) for replica, part in zip(replicate(model, [0, 1]), x.split(3), strict=True)]
            total(y for part in parts for y in part).backward()
        assert_same_gradients(theirs, ours)
        assert_same_state(theirs, ours)


def test_copies_in_threads_do_not_meet(generator):
    """Each thread trains its own copy; what is computed ahead in one is not seen by another."""
    theirs, ours = pair("parametrization")
    x = [draw(generator, 6, 4) for _ in range(40)]

    def train(model):
        for i, batch in enumerate(x):
            model.zero_grad()
            total(model(batch, ("left",) if i % 3 else ("right", "left"))).backward()

    copies = [copy.deepcopy(ours) for _ in range(4)]
    threads = [threading.Thread(target=train, args=(model,)) for model in copies]
    train(theirs)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in copies:
        assert_same_gradients(theirs, each)
        assert_same_state(theirs, each)


# --- transforms and compilers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["parametrization", "hook"])
@pytest.mark.parametrize("training", [True, False])
def test_transforms_of_torch_func(kind, training, generator):
    theirs, ours = pair(kind)
    x = draw(generator, 6, 4)
    found = []
    for model in (theirs, ours):
        model.train(training)
        parameters = dict(model.named_parameters())

        def loss(p, x, model=model):
            return total(functional_call(model, p, (x,)))

        results = [*grad(loss)(parameters, x).values()]
        results += vmap(grad(loss), (None, 0))(parameters, x[:, None]).values()
        if not training:  # torch's own norms iterate with out=, which forward mode does not take
            ones = {name: torch.ones_like(p) for name, p in parameters.items()}
            results += jvp(lambda p: loss(p, x), (parameters,), (ones,))
        found.append(results)
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-11)
    assert_same_state(theirs, ours)


@pytest.mark.filterwarnings("ignore")
def test_traced_in_evaluation_mode(generator):
    """The trace is of torch's own operations, and can be saved. (A trace in training mode of torch's norm fails.)"""
    model = spectral_norm_(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double())
    x = draw(generator, 6, 4)
    model(x)
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(model.eval(), x), file)
    file.seek(0)
    torch.testing.assert_close(torch.jit.load(file)(x), model(x), rtol=1e-11, atol=1e-12)


def test_compiled_branches(generator):
    torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
    theirs = Critic(KINDS["parametrization"][1]).double()
    ours = spectral_norm_(copy.deepcopy(theirs))
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    for used in (("left",), ("left", "right"), ("left",)):
        x = draw(generator, 6, 4)
        for model in (theirs, compiled):
            model.zero_grad()
            total(model(x, used)).backward()
        assert_same_gradients(theirs, ours)
        assert_same_state(theirs, ours)


# --- checkpoints ----------------------------------------------------------------------------------------------------


class Nested(nn.Module):
    def __init__(self, linear, reentrant):
        super().__init__()
        self.layers, self.reentrant = nn.ModuleList(linear(4, 4) for _ in range(3)), reentrant

    def forward(self, x):
        return self.inside(0, x)

    def inside(self, i, x):
        y = torch.tanh(self.layers[i](torch.tanh(self.layers[i](x))))  # each is used twice
        if i == 2:
            return y
        if self.reentrant is None:
            return self.inside(i + 1, y)
        return checkpoint(self.inside, i + 1, y, use_reentrant=self.reentrant)


@pytest.mark.parametrize("kind", ONE)
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints_in_checkpoints_find_the_vectors_of_their_own_forward_pass(kind, reentrant, generator):
    plain = Nested(KINDS[kind][1], None).double()
    ours = copy.deepcopy(plain)
    fastgan.accelerate(ours)
    ours.reentrant = reentrant
    before = len(spectral_norm_checkpoints._uses)
    for _ in range(2):
        real, fake = (draw(generator, 3, 4).requires_grad_() for _ in range(2))
        for model in (plain, ours):
            model.zero_grad()
            losses = [F.softplus(-model(real)).sum(), F.softplus(model(fake)).sum(), model(real).sum()]
            losses[1].backward()
            (losses[0] + losses[2]).backward()
        assert_same_gradients(plain, ours)
        assert_same_state(plain, ours)
    del losses
    for layer in ours.layers:
        vars(layer).pop("weight", None)  # torch's hook leaves its last weight there, and its graph
    gc.collect()
    assert len(spectral_norm_checkpoints._uses) <= before


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_around_the_whole_model(reentrant, generator):
    theirs, ours = pair("parametrization")
    x = draw(generator, 6, 4).requires_grad_()
    for _ in range(2):
        total(theirs(x)).backward()
        sum(checkpoint(lambda x: total(ours(x)), x, use_reentrant=reentrant) for _ in range(1)).backward()
    assert_same_gradients(theirs, ours)
    assert_same_state(theirs, ours)


# --- copies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["parametrization", "mimicry", "biggan"])
@pytest.mark.parametrize("reentrant", [None, False, True])
def test_a_model_can_be_copied_after_any_forward_pass(kind, reentrant, generator):
    _, ours = pair(kind)
    x = draw(generator, 6, 4).requires_grad_()
    y = total(ours(x)) if reentrant is None else checkpoint(lambda x: total(ours(x)), x, use_reentrant=reentrant)
    twin = copy.deepcopy(ours)
    y.backward()
    torch.testing.assert_close(total(twin(x)), total(ours(x)))
    assert_same_state(ours, twin)
    if kind != "parametrization":  # which PyTorch does not pickle
        file = io.BytesIO()
        torch.save(ours, file)
        file.seek(0)
        loaded = torch.load(file, weights_only=False)
        torch.testing.assert_close(total(loaded(x)), total(ours(x)))
    assert all(not isinstance(value, torch.Tensor) for module in ours.modules() for value in vars(module).values())


def test_nothing_that_was_computed_ahead_outlives_the_forward_pass(generator):
    model = spectral_norm_(Critic(lambda *sizes: parametrizations.spectral_norm(nn.Linear(*sizes))).double())
    alive = []
    model.body.register_forward_pre_hook(lambda *_: alive.extend(_ahead()))
    model(draw(generator, 6, 4), ("left",))
    assert len(alive) == 3
    assert [reference() for reference in alive] == [None] * 3


def _ahead():
    from fastgan.nn.spectral_norm_ahead import _running

    return [weakref.ref(each.estimate.u) for each in _running.passes[-1]._ahead.values()]


def test_inference_mode_that_ends_inside_a_forward_pass(generator):
    class Ending(Critic):
        def forward(self, x):
            h = torch.tanh(self.body(x))
            with torch.inference_mode(False), torch.enable_grad():
                return [self.left(h.clone()), self.right(h.clone()).square()]

    theirs = Ending(KINDS["parametrization"][1]).double()
    ours = spectral_norm_(copy.deepcopy(theirs))
    x = draw(generator, 6, 4)
    for model in (theirs, ours):
        model(x)
        with torch.inference_mode():
            outputs = model(x)
        total(outputs).backward()
    assert_same_gradients(theirs, ours)
    assert_same_state(theirs, ours)
