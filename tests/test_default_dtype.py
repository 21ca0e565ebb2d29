"""No result depends on torch.set_default_dtype, which the user's program may have changed."""

import ast
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import fastgan
from fastgan import games, metrics, ops, recipes
from fastgan.data.mixtures import grid, ring
from fastgan.default_dtype import float32_by_default
from fastgan.losses import LOSSES
from fastgan.models import StyleGAN2Generator
from fastgan.native import CPU, address
from fastgan.penalties import PENALTIES
from fastgan.tasks.sampling import draw_latents
from fastgan.toys.plane_recipes import plane_recipe
from tests.conftest import OTHER_DTYPES
from tests.train.steps import recipe_of

pytestmark = pytest.mark.usefixtures("one_thread")

SOURCES = sorted((Path(fastgan.__file__).parent).rglob("*.py"))


# --- one way to an address ----------------------------------------------------------------------------------------


def test_one_function_turns_a_tensor_into_an_address():
    """Behind a number nobody can tell what lies there: `native.address` looks first."""
    for path in (*SOURCES, *(Path(fastgan.__file__).parent.parent / "kernels").glob("*.py")):
        tree = ast.parse(path.read_text())
        found = [node for node in ast.walk(tree) if getattr(node, "attr", getattr(node, "value", None)) == "data_ptr"]
        assert len(found) == (path.name == "native.py"), path


X = torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (X.double(), "6 neighbours of torch.float32"),
        (X[:, :2], r"\[2, 2\] with strides \[3, 1\] on cpu, expected 6 neighbours"),
        (X[:1].expand(2, 3), r"strides \[0, 1\]"),
        (torch.zeros(2, 6)[:, ::2], r"strides \[6, 2\]"),
        (torch.empty(2, 3, device="meta"), "on meta, expected 6 neighbours of torch.float32 on cpu"),
    ],
    ids=["dtype", "size", "expanded", "strided", "device"],
)
def test_an_address_is_refused_where_the_kernel_would_read_something_else(tensor, expected):
    assert address(X, torch.float32, 6, CPU) == X.data_ptr()
    assert address(X.t(), torch.float32, 6, CPU) == X.data_ptr()
    assert address(None, torch.float32, 6, CPU) == 0
    with pytest.raises(RuntimeError, match=expected):
        address(tensor, torch.float32, 6, CPU)


# --- the same numbers ---------------------------------------------------------------------------------------------


class Watch(TorchDispatchMode):
    """Sees operations that make the default dtype of the test out of other ones."""

    def __init__(self, default):
        super().__init__()
        self.default = default

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        given = [x.dtype if isinstance(x, torch.Tensor) else x for x in tree_leaves((args, kwargs or {}))]
        made = [x.dtype for x in tree_leaves(result) if isinstance(x, torch.Tensor)]
        assert self.default not in made or self.default in given, f"{function} makes {self.default} of {given}"
        return result


def resampling():
    x = torch.rand(1, 2, 5, 4, dtype=torch.float32)
    f, w = ops.setup_filter([1, 3, 3, 1]), torch.rand(3, 2, 3, 3, dtype=torch.float32)
    yield f
    yield ops.upfirdn2d(x, None, up=2, padding=1)
    yield ops.upfirdn2d(x, f, down=2, padding=2)
    yield ops.conv2d_resample(x, w, padding=(2, 0, 1, 1))
    yield ops.conv2d_resample(x, w, f, up=2, padding=1)
    yield ops.modulated_conv2d(x, w, torch.rand(1, 2, dtype=torch.float32), up=2, padding=1)


def objectives():
    real, fake = (torch.randn(6, 3, dtype=torch.float32).abs() for _ in range(2))
    for loss in LOSSES.values():
        of = (real, fake) if loss.output == "features" else (real[:, :1], fake[:, :1])
        yield loss.critic(*of)
        yield loss.generator(of[1], of[0])


def penalised():
    critic = nn.Sequential(nn.Linear(4, 5, dtype=torch.float32), nn.ReLU(), nn.Linear(5, 1, dtype=torch.float32))
    real, fake = torch.randn(2, 6, 4, dtype=torch.float32)
    for penalty in PENALTIES.values():
        for method in ("one_pass", "double_backward"):
            critic.zero_grad()
            loss = fastgan.critic_loss(critic, real, fake, penalties=(penalty(),), method=method)
            loss.backward()
            yield loss.detach()
            yield from (p.grad for p in critic.parameters() if p.grad is not None)


def played():
    for name in games.GAMES:
        critic, generator = (nn.Linear(2, 2, dtype=torch.float32) for _ in range(2))
        game = games.parse(name)(*(torch.optim.SGD(m.parameters(), 0.1) for m in (critic, generator)))
        z = torch.randn(3, 2, dtype=torch.float32)
        closures = (lambda c=critic, g=generator, z=z: c(g(z)).square().mean(),
                    lambda c=critic, g=generator, z=z: c(g(z)).tanh().mean())  # fmt: skip
        game.step(games.Closures(game, *closures, epoch=lambda closures=closures: [closures]))
        yield from (p.detach() for m in (critic, generator) for p in m.parameters())


def styled():
    with float32_by_default():
        network = StyleGAN2Generator(8, 1, z_dim=4, w_dim=4, mapping_layers=1, max_width=4)
    for name, parameter in network.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.5)
    for _ in range(3):  # the styles of some are mixed
        yield network(torch.randn(2, 4, dtype=torch.float32)).detach()


def measured():
    real, fake = torch.randn(2, 500, 3, dtype=torch.float32)
    logits = torch.randn(500, 4, dtype=torch.float32)
    figures = [
        metrics.frechet_distance(real, fake), *metrics.kernel_distance(real, fake, 2, 0),
        *metrics.sliced_wasserstein(real, fake), *metrics.inception_score(logits),
        *metrics.precision_recall(real, fake), *metrics.density_coverage(real, fake),
        *vars(metrics.histogram_divergences(real[:, :2], fake[:, :2], bins=4, range=((-2, 2), (-2, 2)))).values(),
    ]  # fmt: skip
    yield torch.tensor(figures, dtype=torch.float64)
    yield from metrics.laplacian_pyramid(torch.rand(2, 1, 16, 16, dtype=torch.float32), 4)


def in_the_plane():
    for mixture in (ring(), grid()):
        yield mixture.sample(20, torch.Generator().manual_seed(0))
    run = recipes.run_of(plane_recipe("WGAN-GP", "ring", changes=["run.steps=2"]))
    for _ in run:
        pass
    yield run.task.sample(20)


def trained():
    for name in ("digits-dcgan", "cycle-gan-small"):
        small = {"resolution": 16, "a": "pagoda", "b": "dahlia", "batch_size": 2} if name.startswith("cycle") else {}
        run = recipes.run_of(recipe_of(name, **small))
        next(run)
        yield from (p.detach() for p in run.task.critics.parameters())
    yield draw_latents(3, 5, seed=1)


PIECES: list[Callable] = [resampling, objectives, penalised, played, styled, measured, in_the_plane, trained]


@pytest.mark.parametrize("piece", PIECES, ids=lambda piece: piece.__name__)
def test_every_number_is_that_of_float32_by_default(piece, seed):
    found = []
    for dtype in (torch.float32, OTHER_DTYPES[seed % len(OTHER_DTYPES)]):
        torch.manual_seed(seed)
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            found.append([x.clone() for x in piece()])
        finally:
            torch.set_default_dtype(before)
    for a, b in zip(*found, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a.nan_to_num(), b.nan_to_num())


@pytest.mark.parametrize("piece", [resampling, objectives, played, styled], ids=lambda piece: piece.__name__)
def test_nothing_is_made_in_the_default_dtype_on_the_way(piece, seed, other_default_dtype):
    torch.manual_seed(seed)
    with Watch(other_default_dtype):
        assert list(piece())


def test_layers_made_in_the_default_dtype_compute_in_it(other_default_dtype, generator):
    """As PyTorch's own: a network made under float64 is one of float64."""
    layers = (fastgan.nn.EqualizedConv2d(2, 3, 3), fastgan.nn.StyledConv(2, 3, 4, (4, 4)), fastgan.nn.BiasAct(2))
    x, w = torch.randn(1, 2, 4, 4), torch.randn(1, 4)
    for layer in layers:
        assert {p.dtype for p in layer.parameters()} == {other_default_dtype}
        y = layer(x, w) if isinstance(layer, fastgan.nn.StyledConv) else layer(x)
        assert y.dtype == other_default_dtype
