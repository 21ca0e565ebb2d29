"""Tests that need a GPU: CUDA graphs, streams, devices and the caching allocator. All marked gpu."""

import pytest
import torch

from tests.ops.cases import Case, compiled_cases, leaves

GPU_CASES = [parameter for parameter in compiled_cases() if parameter.values[0].device.type == "cuda"]
pytestmark = pytest.mark.gpu


def step(case: Case, sample, tensors, weight):
    """Forward and backward; returns the output and the gradients."""
    y = case.call(tensors, sample.kwargs)
    return (y, *torch.autograd.grad(y, [t for t in tensors if t is not None], weight))


@pytest.mark.parametrize("case", GPU_CASES)
def test_cuda_graph_replays_with_new_inputs(case, generator):
    for sample in case.samples(torch.float32, generator):
        tensors = leaves(sample)
        weight = torch.randn_like(case.call(tensors, sample.kwargs))
        if weight.numel() == 0:
            continue
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                step(case, sample, tensors, weight)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = step(case, sample, tensors, weight)
        with torch.no_grad():
            tensors[0].copy_(tensors[0].flip(0))
        graph.replay()
        for found, expected in zip(captured, step(case, sample, tensors, weight), strict=True):
            assert torch.equal(found, expected), sample.label


@pytest.mark.parametrize("case", GPU_CASES)
def test_runs_on_the_current_stream(case, generator):
    """A kernel on another stream than the current one would read the input before it is written."""
    sample = case.samples(torch.float32, generator)[0]
    expected = case.call(sample.tensors, sample.kwargs)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        late = sample.map(lambda t: t * 1)
        found = case.call(late.tensors, sample.kwargs)
    stream.synchronize()
    assert torch.equal(found, expected)


@pytest.mark.parametrize("case", GPU_CASES)
def test_memory_comes_from_the_caching_allocator_and_goes_back(case, generator):
    sample = case.samples(torch.float32, generator)[0]
    tensors = leaves(sample)
    weight = torch.randn_like(case.call(tensors, sample.kwargs))
    step(case, sample, tensors, weight)
    torch.cuda.synchronize()
    free_before, allocated_before = torch.cuda.mem_get_info()[0], torch.cuda.memory_allocated()
    for _ in range(50):
        step(case, sample, tensors, weight)
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() == allocated_before
    assert torch.cuda.mem_get_info()[0] == free_before


@pytest.mark.parametrize("case", GPU_CASES)
def test_a_second_device_is_used_where_the_tensors_are(case, generator):
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    sample = case.samples(torch.float32, generator)[0]
    expected = case.call(sample.tensors, sample.kwargs)
    found = case.call(sample.map(lambda t: t.to("cuda:1")).tensors, sample.kwargs)
    assert found.device == torch.device("cuda:1")
    assert torch.equal(found.cpu(), expected.cpu())
