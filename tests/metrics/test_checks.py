"""Every metric refuses what it cannot compare, and says which argument it was, what came and what it expected."""

import inspect
import math

import pytest
import torch

from fastgan import metrics
from fastgan.data import Images
from fastgan.metrics import nearest_neighbours
from fastgan.metrics.agreement import class_agreement
from fastgan.metrics.checks import check_finite

LABELS = torch.arange(20) % 10
FEATURES = {"real": (20, 3), "fake": (20, 3)}
# Of each metric, the shapes of its sets and what else it takes.
METRICS = {
    "frechet_distance": (FEATURES, {}),
    "kernel_distance": ({"real": (500, 3), "fake": (500, 3)}, {"subsets": 2}),
    "kernel_distance_variance": (FEATURES, {}),
    "precision_recall": (FEATURES, {}),
    "density_coverage": (FEATURES, {}),
    "sliced_wasserstein": (FEATURES, {"projections": 2}),
    "histogram_divergences": ({"real": (20, 2), "fake": (20, 2)}, {"bins": 3, "range": [(0, 1), (0, 1)]}),
    "inception_score": ({"class_logits": (20, 10)}, {"splits": 1}),
    "class_coverage": ({"probabilities": (20, 10)}, {"labels": LABELS}),
    "class_agreement": ({"class_logits": (20, 10)}, {"labels": LABELS}),
    "nearest_neighbours": ({"samples": (20, 3), "data": (20, 3)}, {}),
    "memorisation": ({"samples": (20, 3), "data": (20, 3)}, {}),
    "laplacian_pyramid": ({"images": (4, 1, 16, 16)}, {}),
    "evaluate_digits": ({"samples": (898, 1, 8, 8)}, {}),
    "evaluate_stacked_digits": ({"samples": (2, 3, 8, 8)}, {}),
    "evaluate_patches": ({"samples": (4, 1, 16, 16)}, {"images": Images("few", torch.rand(4, 1, 16, 16))}),
    "classification_accuracy_score": ({"samples": (20, 1, 8, 8)}, {"labels": LABELS}),
}
ARGUMENTS = [(name, argument) for name, (sets, _) in METRICS.items() for argument in sets]


def function(name):
    return class_agreement if name == "class_agreement" else getattr(metrics, name)


def sets_of(name, generator):
    return {argument: torch.rand(shape, generator=generator) for argument, shape in METRICS[name][0].items()}


def refused(name, sets, error=ValueError):
    with pytest.raises(error) as caught:
        function(name)(**sets, **METRICS[name][1])
    return str(caught.value)


def test_every_metric_is_in_the_table():
    public = {name for name in metrics.__all__ if inspect.isfunction(getattr(metrics, name))}
    # A histogram of weights has its own tests; the judge takes nothing.
    assert public - {"divergences", "digit_judge"} == METRICS.keys() - {"class_agreement"}


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, 1e20])
@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_numbers_that_are_none(name, argument, wrong, generator):
    if argument == "class_logits" and wrong == -math.inf:
        pytest.skip("the logarithm of an impossible class")
    sets = sets_of(name, generator)
    place = tuple(int(torch.randint(size, (), generator=generator)) for size in sets[argument].shape)
    sets[argument][place] = wrong
    message = f"{name}: {argument} holds {wrong:g} at {list(place)}, expected finite numbers, of at most 1e+15 in size"
    assert refused(name, sets) == message


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_sets_of_another_shape(name, argument, generator):
    sets = sets_of(name, generator)
    right = sets[argument]
    wrong = [right[:0], right[..., 0], right[None], right[0, ..., :0]]
    if right.dim() > 2 or len(sets) > 1:  # features of another length, images of another size
        wrong.append(torch.cat([right, right], dim=-1))
    if name in ("frechet_distance", "kernel_distance", "kernel_distance_variance", "evaluate_digits"):
        wrong.append(right[:1])
    if name == "laplacian_pyramid":
        wrong.pop()  # of any size
    for value in wrong:
        message = refused(name, {**sets, argument: value})
        assert message.startswith(f"{name}: "), message
        shown = [
            other for other in sets if f"{other} has shape {list({**sets, argument: value}[other].shape)}" in message
        ]
        assert shown, message
        assert ", expected [" in message


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_sets_of_another_type(name, argument, generator):
    sets = sets_of(name, generator)
    for value, kind in ((sets[argument].long(), "torch.int64"), (sets[argument].tolist(), "list"), (None, "NoneType")):
        message = refused(name, {**sets, argument: value}, TypeError)
        assert message == f"{name}: {argument} is {kind}, expected a floating-point tensor"


@pytest.mark.parametrize(("name", "argument"), [("class_coverage", "labels"), ("class_agreement", "labels")])
def test_labels_that_are_no_classes(name, argument, generator):
    sets = sets_of(name, generator)
    for label in (-1, 10):
        labels = LABELS.clone()
        labels[3] = label
        with pytest.raises(ValueError, match=f"{name}: labels holds {label}, expected classes, 0 to 9"):
            function(name)(**sets, labels=labels)


def test_data_without_a_class(generator):
    with pytest.raises(ValueError, match="class_coverage: labels lack class 9, expected every class to occur"):
        metrics.class_coverage(**sets_of("class_coverage", generator), labels=LABELS.clamp(max=8))


def test_a_row_of_impossible_classes(generator):
    logits = torch.rand(20, 10, generator=generator)
    logits[7] = -math.inf
    with pytest.raises(ValueError, match="class_logits has a row of minus infinity only, expected a class that is"):
        metrics.inception_score(logits)


def test_images_of_the_data_are_looked_at_too():
    pixels = torch.zeros(5, 1, 4, 4)
    pixels[2, 0, 1, 3] = math.nan
    with pytest.raises(ValueError, match=r"nearest_neighbours: data holds nan at \[2, 0, 1, 3\]"):
        nearest_neighbours(torch.zeros(2, 1, 4, 4), Images("broken", pixels))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_in_every_type(dtype, wrong):
    check_finite(
        "metric", "real", torch.full((3, 4), torch.finfo(dtype).max if dtype == torch.float16 else 1e15, dtype=dtype)
    )
    value = torch.ones(3, 4, dtype=dtype)
    value[1, 2] = wrong
    with pytest.raises(ValueError, match=rf"metric: real holds {wrong:g} at \[1, 2\]"):
        check_finite("metric", "real", value)


def test_the_largest_numbers_have_finite_distances(generator):
    """As what is allowed is: squares in float32, fourth powers in float64."""
    real, fake = (1e15 * (2 * torch.rand(500, 4, generator=generator) - 1) for _ in range(2))
    assert math.isfinite(metrics.frechet_distance(real, fake))
    assert all(map(math.isfinite, metrics.sliced_wasserstein(real, fake)))
    assert metrics.precision_recall(real, fake) == metrics.precision_recall(real.double(), fake.double())
