"""The derivatives of every op against finite differences, and what the contract says of higher orders."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from tests.ops.cases import INTERPRETING, compiled_cases, leaves, one_of_each_kind, reference_cases

pytestmark = pytest.mark.usefixtures("other_default_dtype")


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("case", compiled_cases() + reference_cases())
def test_gradcheck_and_gradgradcheck(case, generator):
    if not case.supports(torch.float64):
        pytest.skip(f"{case.backend} takes no float64; tests/ops/test_accuracy.py compares its derivatives")
    for sample in case.samples(torch.float64, generator):
        # Finite differences of thousands of elements take minutes; one sample of several blocks is not missed here.
        largest = max(t.numel() for t in sample.tensors if t is not None)
        if not sample.smooth or not 0 < largest <= 500:
            continue
        inputs = leaves(sample)

        def function(*tensors, sample=sample):
            return case.call(tensors, sample.kwargs)

        # By columns of the Jacobian, or by random combinations of them where there are many.
        fast = largest > 40
        assert gradcheck(function, inputs, fast_mode=fast), sample.label
        assert gradgradcheck(function, inputs, fast_mode=fast), sample.label


def third_derivative(function, inputs):
    """The gradient of the sum of squares of the gradient of the sum of squares of the gradient of sum(y^2)."""
    given = [t for t in inputs if t is not None]
    value = function(*inputs).square().sum()
    for _ in range(2):
        value = sum(g.square().sum() for g in torch.autograd.grad(value, given, create_graph=True))
    return torch.autograd.grad(value, given)


@pytest.mark.parametrize("case", compiled_cases())
def test_third_derivative_is_composed_or_refused(case, generator):
    samples = case.samples(case.widest, generator)
    for sample in one_of_each_kind(samples) if INTERPRETING else samples:  # it is composed of torch operations
        inputs = leaves(sample)
        if inputs[0].numel() == 0:
            continue

        def function(*tensors, sample=sample):
            return case.call(tensors, sample.kwargs)

        if case.spec.order is None:
            expected = third_derivative(
                lambda *ts, s=sample: case.spec.reference(*ts, **s.kwargs), leaves(sample.map(torch.Tensor.double))
            )
            bound = 1e-12 if case.widest == torch.float64 else 1e-5
            # As in test_accuracy relative to the largest of all: a gradient of one element may be a sum that cancels.
            largest = max(truth.abs().max() for truth in expected).clamp(min=1e-30)
            for found, truth in zip(third_derivative(function, inputs), expected, strict=True):
                assert (found.double() - truth).abs().max() <= bound * largest, sample.label
        else:
            with pytest.raises(RuntimeError, match="derivative"):
                third_derivative(function, inputs)


@pytest.mark.parametrize("case", compiled_cases())
def test_any_subset_of_inputs_may_require_a_gradient(case, generator):
    for sample in one_of_each_kind(case.samples(case.widest, generator)):
        full = leaves(sample)
        given = [i for i, t in enumerate(full) if t is not None]
        y = case.call(full, sample.kwargs)
        expected = dict(zip(given, torch.autograd.grad(y.sum(), [full[i] for i in given]), strict=True))
        for chosen in given:
            tensors = [t if i == chosen or t is None else t.detach() for i, t in enumerate(leaves(sample))]
            (found,) = torch.autograd.grad(case.call(tensors, sample.kwargs).sum(), [tensors[chosen]])
            assert torch.equal(found, expected[chosen]), f"{sample.label}: input {chosen}"
        with torch.no_grad():
            assert case.call(full, sample.kwargs).grad_fn is None
