"""Every compiled backend against the float64 reference: forward, first and second derivatives, in every dtype."""

from collections import defaultdict

import pytest
import torch
import torch.nn.functional as F

from tests.ops.cases import compiled_cases, derivatives, draw_weights, leaves

pytestmark = pytest.mark.usefixtures("other_default_dtype")

FACTORS = {
    "attention": (0, 1, 3),
    "conv3x3": (1,),
    "conv_stride2": (1,),
    "scaled_bias_act": (1, 3),
    "modulated_conv2d": (1, 2, 4),
}
"""The arguments that multiply others: scaled as well, their products would leave float32's range, as in any formula;
in attention they decide by their last digit where the softmax lies."""
SUMS = {"attention"}
"""Ops each of whose elements is a sum that may cancel."""

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize("case", compiled_cases())
def test_error_is_at_most_twice_that_of_pytorch(case, dtype, generator):
    """Errors are measured against the reference in float64 on the same (rounded) inputs, relative to the largest value.

    For forward, first and second derivatives each, over the elements of all samples: the root mean square is at most
    twice that of the same formula in plain PyTorch in the same dtype (half a unit in the last place, where PyTorch
    happens to be exact), and the worst at most twice PyTorch's worst (four units in the last place; 8 for gradients
    through a convolution, 16 for second derivatives, which are sums of sums that cancel: there the worst of one draw is
    luck on both sides, PyTorch's own being up to 4.8 units in 25 draws of the former, and the root mean square is what
    binds). All samples together, since the worst of a dozen elements is luck. In float64 plain
    PyTorch is the truth itself, and no element is off by 1e-13.
    """
    if not case.supports(dtype):
        pytest.skip(f"{case.backend} takes no {dtype}")
    eps = torch.finfo(dtype).eps
    errors = defaultdict(list)
    for sample in case.samples(dtype, generator):
        weights = draw_weights(case, sample, generator)

        def reference(tensors, sample=sample):
            return case.spec.reference(*tensors, **sample.kwargs)

        wide = sample.map(torch.Tensor.double)
        exact = derivatives(reference, leaves(wide), tuple(w.double() for w in weights))
        plain = derivatives(reference, leaves(sample), weights)
        ours = derivatives(lambda tensors, s=sample: case.call(tensors, s.kwargs), leaves(sample), weights)
        for name, truth in exact.items():
            assert ours[name].dtype == plain[name].dtype
            assert ours[name].shape == truth.shape
        for order in ("forward", "first", "second"):
            names = [name for name in exact if name.startswith(order) and exact[name].numel()]
            if not names:
                continue
            largest = max(exact[name].abs().max() for name in names).clamp(min=torch.finfo(dtype).tiny)
            found, expected = (
                torch.cat([((run[name].double() - exact[name]) / largest).flatten() for name in names])
                for run in (ours, plain)
            )
            if dtype == torch.float64:
                assert found.abs().max() <= 1e-13, f"{sample.label}: {order}"
            else:
                errors[order].append((sample.label, found, expected))
    for order, rows in errors.items():
        labels, *runs = zip(*rows, strict=True)
        worst_of_each = [found.abs().max().item() for found in runs[0]]
        worst, label = max(zip(worst_of_each, labels, strict=True))
        found, expected = map(torch.cat, runs)
        units = {"forward": 4, "first": 8 if case.spec.composed else 4, "second": 16}[order]
        cap = max(2 * expected.abs().max().item(), units * eps)
        assert worst <= cap, f"{label}: {order}: {worst / eps:.2f} units in the last place, of {cap / eps:.2f}"
        found, expected = (run.square().mean().sqrt().item() for run in (found, expected))
        assert found <= max(2 * expected, eps / 2), f"{order}: rms error {found:.3g}, PyTorch's {expected:.3g}"


@pytest.mark.parametrize("case", compiled_cases())
def test_nan_and_infinity_go_where_the_formula_sends_them(case, generator):
    dtype = case.widest
    for sample in case.samples(dtype, generator):
        if sample.tensors[0].numel() < 3:
            continue
        for value in (float("nan"), float("inf"), float("-inf")):
            x = sample.tensors[0].clone(memory_format=torch.preserve_format)
            x[tuple(size // 2 for size in x.shape)] = value
            tensors = (x, *sample.tensors[1:])
            expected = case.spec.reference(*tensors, **sample.kwargs)
            found = case.call(tensors, sample.kwargs)
            if case.spec.tiled:  # it reaches all of a tile, as infinity or as NaN
                lost, ordinary = ~expected.isfinite(), found.isfinite()
                assert not (lost & ordinary).any(), f"{sample.label}: {value}"
                near = F.max_pool2d(lost.to(torch.float32), 3, 1, 1) > 0
                assert not (~ordinary & ~near).any(), f"{sample.label}: {value}"
            else:
                assert torch.equal(found.isnan(), expected.isnan()), f"{sample.label}: {value}"
                ordinary = ~expected.isnan()
            torch.testing.assert_close(found[ordinary], expected[ordinary], msg=f"{sample.label}: {value}")


@pytest.mark.parametrize("scale", [1e-30, 1e4, 1e30])
@pytest.mark.parametrize("case", compiled_cases())
def test_tiny_and_huge_inputs(case, scale, generator):
    """Nothing overflows on the way to a finite result, nothing underflows on the way to a normal one.

    An element may be small beside what it is the sum of, as in a convolution: there errors are relative to the largest.
    """
    for sample in case.samples(torch.float32, generator):
        factors = FACTORS.get(case.spec.name, ())
        tensors = [t if t is None or i in factors else t * scale for i, t in enumerate(sample.tensors)]
        expected = case.spec.reference(*[None if t is None else t.double() for t in tensors], **sample.kwargs).float()
        sums = case.spec.composed or case.spec.tiled or case.spec.name in SUMS
        atol = 3e-6 * expected.abs().max().item() if sums and expected.numel() else 1e-37
        torch.testing.assert_close(case.call(tensors, sample.kwargs), expected, rtol=3e-6, atol=atol)
