"""Spectral norms on a GPU: the CPU's numbers, and a whole forward and backward pass in a CUDA graph. All marked gpu."""

import copy

import pytest
import torch
from torch import nn

from fastgan.nn import spectral_norm_

pytestmark = pytest.mark.gpu


def critic() -> nn.Module:
    layers = nn.Conv2d(3, 16, 3, padding=1), nn.LeakyReLU(0.2), nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.LeakyReLU(0.2)
    return spectral_norm_(nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 256, 1)))


def gradients(model, x):
    return torch.autograd.grad(model(x).square().sum(), list(model.parameters()))


def test_training_is_that_of_the_cpu(generator):
    on_cpu = critic().double()
    on_gpu = copy.deepcopy(on_cpu).cuda()
    for _ in range(5):
        x = torch.randn(4, 3, 8, 8, generator=generator, dtype=torch.float64)
        for a, b in zip(gradients(on_cpu, x), gradients(on_gpu, x.cuda()), strict=True):
            torch.testing.assert_close(b.cpu(), a, rtol=1e-9, atol=1e-10)
    for a, b in zip(on_cpu.buffers(), on_gpu.buffers(), strict=True):
        torch.testing.assert_close(b.cpu(), a, rtol=1e-10, atol=1e-12)


def test_nothing_waits_for_the_device(generator):
    model, x = critic().cuda(), torch.randn(4, 3, 8, 8, device="cuda")
    gradients(model, x)
    torch.cuda.set_sync_debug_mode("error")
    try:
        gradients(model, x)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_cuda_graph_iterates_at_every_replay(generator):
    model, x = critic().cuda(), torch.randn(4, 3, 8, 8, device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            gradients(model, x)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    eager = copy.deepcopy(model)
    with torch.cuda.graph(graph):
        captured = gradients(model, x)
    for _ in range(3):
        graph.replay()
        for a, b in zip(captured, gradients(eager, x), strict=True):
            torch.testing.assert_close(a, b)
    for a, b in zip(model.buffers(), eager.buffers(), strict=True):
        torch.testing.assert_close(a, b)
