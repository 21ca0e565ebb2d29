"""Random critics equal the textbook, a few at every run; `make fuzz` looks at many."""

import random
from contextlib import contextmanager

import pytest
import torch
from torch import nn

import fastgan
from fastgan.affine.rules.arithmetic import Product
from tests.fuzz import reporting
from tests.fuzz.checking import check
from tests.fuzz.generating import SHAPES
from tests.fuzz.growing import DoesNotFitError, Growth, writing
from tests.fuzz.operations import HEADS, OPERATIONS
from tests.fuzz.program import Around, Gene, Program
from tests.fuzz.workers import examine
from tests.fuzz.writing import source

pytestmark = pytest.mark.usefixtures("one_thread")

CRITICS = 400


def test_random_critics_equal_the_textbook(seed):
    taken = 0
    for index in range(CRITICS):
        result = examine(str(seed), index)
        if result.failure is not None:
            pytest.fail(reporting.failure(str(seed), examine(str(seed), index, seconds=20)))
        taken += result.verdict.one_pass
    assert taken > CRITICS / 4


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_between_two_layers(name, seed):
    """A layer, an activation, the operation, the same again: it can be written, and equals the textbook."""
    rng, written = random.Random(seed), 0
    for _ in range(200):
        program = _around_one(name, rng)
        if program is None:
            continue
        written += 1
        verdict = check(*program)
        assert not verdict.failures, f"{verdict.failures}\n{program[1]}"
        if written == 2:
            return
    pytest.fail("it could not be written twice in 200 tries")


def _around_one(name: str, rng: random.Random) -> tuple[Program, str] | None:
    samples = rng.choice((1, 2, 3))
    program = Program(
        rng.randrange(2**31),
        samples,
        samples,
        rng.choice(SHAPES),
        labels="classes and numbers",
        around=Around(penalties=("R1(2.0)", "R2(1.0)")),
    )
    names = ["functional_linear", "leaky_relu", *_before(name), name, "bias", "moved_back", "unfolded_back"]
    genes, heads = [], []
    with writing():
        growth = Growth(program, rng)
        for kind in names:
            try:
                genes.append(growth.add(Gene(len(genes), kind, rng.randrange(2**31))))
            except DoesNotFitError:
                if kind == name:
                    return None
        try:
            heads.append(growth.add(Gene(50, "linear_head", rng.randrange(2**31)), HEADS))
        except DoesNotFitError:
            return None
    program = Program(**{**vars(program), "genes": tuple(genes), "heads": tuple(heads)})
    return program, source(program, growth)


def _before(name: str) -> list[str]:
    """What makes an input that the operation takes."""
    fits = {
        "moved_back": "moved",
        "used_there": "moved",
        "pooled_there": "moved",
        "used_folded": "folded",
        "unfolded_back": "folded",
    }
    return [fits[name]] if name in fits else []


@contextmanager
def _wrong_product():
    """Gradients of what multiplies are 1.001 times as large."""
    right = Product.weight_gradients
    Product.weight_gradients = lambda *args: tuple(1.001 * g for g in right(*args))
    try:
        yield
    finally:
        Product.weight_gradients = right


def test_a_wrong_gradient_is_found_and_shrunk(seed):
    with _wrong_product():
        for index in range(100):
            result = examine(str(seed), index)
            if result.failure is not None and result.failure.kind == "gradient":
                break
        else:
            pytest.fail("a wrong gradient was not found by 100 critics")
        shrunk = examine(str(seed), index, seconds=10)
    assert shrunk.failure.key == result.failure.key
    assert len(shrunk.program) <= len(result.program)


def test_what_auto_looks_at_stays_as_it_is():
    """A batch norm that is used twice."""
    norm = nn.BatchNorm1d(4)
    critic = nn.Sequential(norm, nn.ReLU(), norm, nn.Linear(4, 1))
    before = {name: b.clone() for name, b in critic.named_buffers()}
    fastgan.explain(critic, torch.randn(5, 4))
    for name, b in critic.named_buffers():
        assert torch.equal(b, before[name]), name
