"""Whole networks of either code base: the same with and without `install`, to the second derivative and in training."""

import importlib
import sys

import pytest
import torch
import torch.nn.functional as F

from fastgan.integrations import stylegan

from .derivatives import assert_same, graph_derivatives

WIDTHS = {4: 6, 8: 5, 16: 3}


def networks(module):
    code = importlib.import_module(module)
    if module == "model":
        pair = code.Generator(16, 7, 2, WIDTHS), code.Discriminator(16, WIDTHS)
    else:
        pair = code.Generator(7, 7, 16), code.Discriminator(16)
    for network in pair:
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.abs().max() == 0:
                    parameter.normal_()
    return tuple(network.double() for network in pair)


def everything(pair, z):
    generator, critic = pair
    leaves = [z.clone().requires_grad_(), *generator.parameters(), *critic.parameters()]
    return graph_derivatives(critic(generator(leaves[0])), leaves)


def calls():
    """Which of the originals ran since the last time."""
    ran = []
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in ("torch_utils", "training", "op") and hasattr(module, "calls"):
            ran += module.calls
            module.calls.clear()
    return ran


@pytest.mark.parametrize(("name", "module"), [("nvidia", "training.networks_stylegan2"), ("rosinality", "model")])
def test_networks_that_are_there_already(name, module, codebase, generator):
    codebase(name)
    pair = networks(module)
    z = torch.randn(4, 7, generator=generator, dtype=torch.float64)
    theirs = everything(pair, z)
    assert calls()
    with stylegan.installed():
        ours = everything(pair, z)
        assert set(calls()) <= {"FusedLeakyReLU"}
    assert_same(ours, theirs, rtol=1e-8, atol=1e-8)
    again = everything(pair, z)
    assert all(torch.equal(a, b) for a, b in zip(again, theirs, strict=True) if a is not None)
    assert calls()


@pytest.mark.parametrize(("name", "module"), [("nvidia", "training.networks_stylegan2"), ("rosinality", "model")])
def test_networks_imported_afterwards(name, module, codebase, generator):
    codebase(name)
    report = stylegan.install()
    pair = networks(module)
    z = torch.randn(4, 7, generator=generator, dtype=torch.float64)
    ours = everything(pair, z)
    assert calls() == []
    assert not [row for row in report if row.state == "left" and row.name.split(".")[0] == module]
    stylegan.uninstall()
    theirs = everything(pair, z)
    assert calls()
    assert_same(ours, theirs, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("name", "module"), [("nvidia", "training.networks_stylegan2"), ("rosinality", "model")])
def test_a_training_step(name, module, codebase, seed):
    """A step of either player with R1, as their training loops take it."""
    codebase(name)
    results = []
    for fast in (False, True):
        if fast:
            stylegan.install()
        torch.manual_seed(seed)
        pair = networks(module)
        generator, critic = pair
        package = "op" if name == "rosinality" else "torch_utils.ops"
        gradfix = importlib.import_module(f"{package}.conv2d_gradfix")
        optimizers = [torch.optim.SGD(network.parameters(), lr=1e-2) for network in pair]
        real, z = torch.randn(4, 3, 16, 16, dtype=torch.float64), torch.randn(4, 7, dtype=torch.float64)
        real.requires_grad_()
        logits = critic(real)
        with gradfix.no_weight_gradients():
            (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
        penalty = gradient.square().sum((1, 2, 3)).mean()
        (F.softplus(-logits).mean() + F.softplus(critic(generator(z).detach())).mean() + 0.5 * penalty).backward()
        optimizers[1].step()
        F.softplus(-critic(generator(z))).mean().backward()
        optimizers[0].step()
        results.append([p.detach() for network in pair for p in network.parameters()])
        assert all(torch.isfinite(p).all() for p in results[-1])
    assert_same(results[1], results[0], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("code", "module"), [("nvidia", "training.networks_stylegan2"), ("rosinality", "model")])
def test_r1_alone_leaves_none_where_the_originals_leave_zeros(code, module, codebase, generator):
    """As docs/integrations.md says; every other gradient is the same."""
    codebase(code)
    _, critic = networks(module)
    x = torch.randn(4, 3, 16, 16, generator=generator, dtype=torch.float64, requires_grad=True)

    def gradients():
        critic.zero_grad()
        (g,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
        g.square().sum().backward()
        return {name: p.grad for name, p in critic.named_parameters()}

    theirs = gradients()
    with stylegan.installed():
        ours = gradients()
    without = [name for name, g in ours.items() if g is None]
    assert without
    for name, g in theirs.items():
        if name in without:
            assert g is None or g.abs().max() == 0
        else:
            torch.testing.assert_close(ours[name], g, rtol=1e-8, atol=1e-9)
