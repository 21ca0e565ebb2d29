"""fastgan.nn's spectral norms beside torch's: trajectories, checkpoints, modes, copies, and where they differ."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils import spectral_norm as hook_norm
from torch.utils.checkpoint import checkpoint

import fastgan
from fastgan.nn import SpectralNorm, SpectralNormGroup, spectral_norm, spectral_norm_
from fastgan.nn import spectral_norm_ahead as ahead
from fastgan.penalties import R1, R2, WGANGP

LAYERS = {
    "linear": lambda: nn.Linear(7, 5),
    "conv1d": lambda: nn.Conv1d(3, 4, 5),
    "conv2d": lambda: nn.Conv2d(3, 8, 3),
    "conv3d": lambda: nn.Conv3d(2, 3, 2),
    "grouped": lambda: nn.Conv2d(4, 8, 3, groups=2),
    "transposed1d": lambda: nn.ConvTranspose1d(3, 4, 5),
    "transposed2d": lambda: nn.ConvTranspose2d(3, 4, 4, 2, 1),
    "transposed3d": lambda: nn.ConvTranspose3d(2, 3, 2),
    "embedding": lambda: nn.Embedding(9, 6),
}


class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 4, 2, 1)
        self.back = nn.ConvTranspose2d(12, 4, 4, 2, 1)
        self.head = nn.Linear(4 * 64, 1)

    def forward(self, x):
        h = F.leaky_relu(self.first(x), 0.2)
        h = F.leaky_relu(self.second(h), 0.2)
        return self.head(F.leaky_relu(self.back(h), 0.2).flatten(1))


def pair(build, seed, normalise_torch, normalise_ours):
    """Two models with the same parameters and the same first vectors."""
    torch.manual_seed(seed)
    theirs = build()
    ours = copy.deepcopy(theirs)
    torch.manual_seed(seed + 1)
    normalise_torch(theirs)
    torch.manual_seed(seed + 1)
    normalise_ours(ours)
    return theirs, ours


def torch_norms(model):
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            parametrizations.spectral_norm(module)


def assert_same(theirs, ours, **tolerance):
    first, second = theirs.state_dict(), ours.state_dict()
    assert list(first) == list(second)
    for key, value in first.items():
        torch.testing.assert_close(second[key], value, msg=lambda m, key=key: f"{key}: {m}", **tolerance)


@pytest.fixture
def seed(generator):
    return int(torch.randint(2**31, (), generator=generator))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dim", [None, 0, 1])
def test_one_layer_is_torchs(name, dim, seed):
    options = {"n_power_iterations": 2, "eps": 1e-10, "dim": dim}
    theirs, ours = pair(
        lambda: LAYERS[name]().double(), seed,
        lambda m: parametrizations.spectral_norm(m, **options), lambda m: spectral_norm(m, **options),
    )  # fmt: skip
    assert_same(theirs, ours, rtol=1e-12, atol=1e-12)
    for _ in range(3):
        a, b = theirs.weight, ours.weight
        torch.testing.assert_close(b, a, rtol=1e-12, atol=1e-12)
        cotangent = torch.randn_like(a)
        for left, right in zip(
            torch.autograd.grad(a, theirs.parametrizations.weight.original, cotangent),
            torch.autograd.grad(b, ours.parametrizations.weight.original, cotangent), strict=True,
        ):  # fmt: skip
            torch.testing.assert_close(right, left, rtol=1e-11, atol=1e-11)
    assert_same(theirs, ours, rtol=1e-12, atol=1e-12)


def test_a_hundred_steps_of_training_are_torchs(seed):
    theirs, ours = pair(Critic, seed, torch_norms, spectral_norm_)
    optimisers = [torch.optim.Adam(model.parameters(), 1e-3) for model in (theirs, ours)]
    for _ in range(100):
        x = torch.randn(4, 3, 8, 8)
        for model, optimiser in zip((theirs, ours), optimisers, strict=True):
            optimiser.zero_grad()
            F.softplus(model(x)).sum().backward()
            optimiser.step()
    # Adam divides by the size of a gradient, so that what is rounded otherwise is visible in the fourth digit.
    assert_same(theirs, ours, rtol=1e-3, atol=2e-4)


def test_a_hundred_steps_are_torchs_to_rounding_in_float64(seed):
    theirs, ours = pair(lambda: Critic().double(), seed, torch_norms, spectral_norm_)
    optimisers = [torch.optim.SGD(model.parameters(), 1e-2) for model in (theirs, ours)]
    for _ in range(100):
        x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
        for model, optimiser in zip((theirs, ours), optimisers, strict=True):
            optimiser.zero_grad()
            F.softplus(model(x)).sum().backward()
            optimiser.step()
    assert_same(theirs, ours, rtol=1e-9, atol=1e-10)


@pytest.fixture
def calls(monkeypatch):
    """How many weights each call of the op is given."""
    counts, real = [], ahead.estimates
    monkeypatch.setattr(ahead, "estimates", lambda w, *a, **k: (counts.append(len(w)), real(w, *a, **k))[1])
    return counts


def test_the_whole_network_takes_one_call(calls):
    critic = spectral_norm_(Critic())
    calls.clear()
    x = torch.randn(2, 3, 8, 8)
    critic(x), critic.eval()(x), critic(x)
    assert calls == [4, 4, 4]


def test_a_guess_is_what_the_last_forward_pass_used(calls):
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.heads = nn.ModuleList(nn.Linear(3, 3) for _ in range(4))

        def forward(self, x, *used):
            return [self.heads[i](x) for i in used]

    model = spectral_norm_(Branches())
    for used, expected in [
        ((0, 1), [4]),  # at first all are expected
        ((0, 1), [2]),
        ((1, 2), [2, 1]),  # one of them was not
        ((1, 2), [2]),
        ((2, 2), [2, 1]),  # once each
        ((), [1]),
        ((), []),
        ((3,), [1]),
    ]:
        calls.clear()
        model(torch.randn(2, 3), *used)
        assert calls == expected
    calls.clear()
    model.heads[3](torch.randn(2, 3))  # outside of the model
    assert calls == [1]


@pytest.mark.parametrize("direction", ["from torch", "to torch"])
def test_checkpoints_load_both_ways(direction, seed):
    theirs, ours = pair(Critic, seed, torch_norms, spectral_norm_)
    source, target = (theirs, ours) if direction == "from torch" else (ours, theirs)
    x = torch.randn(2, 3, 8, 8)
    source(x)
    target.load_state_dict(source.state_dict())
    assert_same(source, target, rtol=0, atol=0)
    torch.testing.assert_close(target.eval()(x), source.eval()(x))


def test_checkpoints_of_torchs_hook_load(seed):
    torch.manual_seed(seed)
    old = nn.Sequential(hook_norm(nn.Conv2d(3, 8, 3)), nn.ReLU(), hook_norm(nn.ConvTranspose2d(8, 4, 4, 2, 1)))
    x = torch.randn(2, 3, 6, 6)
    old(x)
    ours = spectral_norm_(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.ConvTranspose2d(8, 4, 4, 2, 1)))
    ours.load_state_dict(old.state_dict())
    torch.testing.assert_close(ours.eval()(x), old.eval()(x))
    copy.deepcopy(ours).load_state_dict(old.state_dict())  # the hook of a copy knows the copy


def test_eval_mode_and_no_grad_are_torchs(seed):
    theirs, ours = pair(Critic, seed, torch_norms, spectral_norm_)
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():  # iterates in training mode all the same
        torch.testing.assert_close(ours(x), theirs(x))
    before = {key: value.clone() for key, value in ours.state_dict().items()}
    theirs.eval(), ours.eval()
    torch.testing.assert_close(ours(x), theirs(x))
    assert all(torch.equal(before[key], value) for key, value in ours.state_dict().items())
    assert_same(theirs, ours)


def test_a_layer_in_eval_mode_among_others_does_not_iterate(seed):
    theirs, ours = pair(Critic, seed, torch_norms, spectral_norm_)
    x = torch.randn(2, 3, 8, 8)
    for model in (theirs, ours):
        model.second.eval()
        model(x)
    assert_same(theirs, ours)


def test_a_layer_used_twice_or_alone_iterates_as_torchs_does(seed):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x):
            return self.conv(F.leaky_relu(self.conv(x), 0.2))

    theirs, ours = pair(lambda: Twice().double(), seed, torch_norms, spectral_norm_)
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    for _ in range(3):
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(ours.conv(x), theirs.conv(x), rtol=1e-11, atol=1e-11)  # outside of the model
        torch.testing.assert_close(ours.conv.weight, theirs.conv.weight, rtol=1e-11, atol=1e-11)
    assert_same(theirs, ours, rtol=1e-11, atol=1e-11)


def test_two_forward_passes_before_one_backward(seed):
    theirs, ours = pair(lambda: Critic().double(), seed, torch_norms, spectral_norm_)
    real, fake = (torch.randn(2, 3, 8, 8, dtype=torch.float64) for _ in range(2))
    gradients = []
    for model in (theirs, ours):
        loss = F.softplus(-model(real)).mean() + F.softplus(model(fake)).mean()
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpointed_layer_finds_the_weight_it_had(reentrant, seed):
    """torch's parametrization iterates once more when it is computed again, and gives another gradient."""
    torch.manual_seed(seed)
    plain = spectral_norm_(Critic().double())
    checkpointed = copy.deepcopy(plain)

    def forward(x):
        h = checkpoint(checkpointed.first, x, use_reentrant=reentrant)
        h = checkpoint(checkpointed.second, F.leaky_relu(h, 0.2), use_reentrant=reentrant)
        return checkpointed.head(F.leaky_relu(checkpointed.back(F.leaky_relu(h, 0.2)), 0.2).flatten(1))

    checkpointed.forward = forward
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    for model in (plain, checkpointed):
        model(x).square().sum().backward()
    for a, b in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-10, atol=1e-12)
    assert_same(plain, checkpointed, rtol=1e-12, atol=1e-12)


def test_a_copy_is_independent(seed):
    torch.manual_seed(seed)
    model = spectral_norm_(Critic())
    twin = copy.deepcopy(model)
    x = torch.randn(2, 3, 8, 8)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    twin(x)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    model(x)
    assert_same(model, twin, rtol=0, atol=0)


def test_removed_norms_are_left_out(seed):
    torch.manual_seed(seed)
    model = spectral_norm_(Critic()).eval()
    x = torch.randn(2, 3, 8, 8)
    y = model(x)
    parametrize.remove_parametrizations(model.first, "weight")
    assert type(model.first) is nn.Conv2d
    torch.testing.assert_close(model(x), y)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_forward_pass_leaves_nothing_behind(error, seed):
    theirs, ours = pair(Critic, seed, torch_norms, spectral_norm_)

    def fail(*_):
        raise error

    for model in (theirs, ours):
        hook = model.second.register_forward_pre_hook(fail)
        with pytest.raises(error):
            model(torch.randn(2, 3, 8, 8))
        hook.remove()
    assert_same(theirs, ours)
    x, h = torch.randn(2, 3, 8, 8), torch.randn(2, 256)
    torch.testing.assert_close(ours.head(h), theirs.head(h))
    torch.testing.assert_close(ours(x), theirs(x))
    assert_same(theirs, ours)
    assert len(ahead._running.passes) == 0


@pytest.mark.parametrize("penalties", [(R1(10.0), R2(5.0)), (WGANGP(10.0),)], ids=["R1+R2", "WGAN-GP"])
def test_penalties_in_one_pass_go_through_it(penalties, seed):
    torch.manual_seed(seed)
    critic = spectral_norm_(Critic().double())
    real, fake = (torch.randn(3, 3, 8, 8, dtype=torch.float64) for _ in range(2))
    found = []
    for method in ("double_backward", "one_pass"):
        each = copy.deepcopy(critic)
        torch.manual_seed(seed)
        total = fastgan.critic_loss(each, real, fake, penalties=penalties, method=method)
        total.backward()
        found.append([p.grad for p in each.parameters()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-11)


def test_compiled_as_a_whole(seed):
    torch.manual_seed(seed)
    eager = spectral_norm_(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(64, 1)).double()
    )
    twin = copy.deepcopy(eager)
    compiled = torch.compile(twin, fullgraph=True)
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    for _ in range(2):
        y, z = eager(x), compiled(x)
        torch.testing.assert_close(z, y, rtol=1e-11, atol=1e-11)
        y.sum().backward(), z.sum().backward()
    for a, b in zip(eager.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-10, atol=1e-12)
    assert_same(eager, twin, rtol=1e-11, atol=1e-12)


def test_autocast_does_not_touch_the_norm(seed):
    torch.manual_seed(seed)
    model = spectral_norm_(Critic())
    twin = copy.deepcopy(model)
    x = torch.randn(2, 3, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(x)
    twin(x)
    assert_same(model, twin, rtol=0, atol=0)


def test_a_vector_is_divided_by_its_norm():
    class Vector(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([3.0, 4.0]))

    layer = spectral_norm(Vector())
    torch.testing.assert_close(layer.weight, torch.tensor([0.6, 0.8]))


def test_skipped_layers_and_torchs_norms_keep_what_they_have(seed):
    torch.manual_seed(seed)
    model = Critic()
    parametrizations.spectral_norm(model.second, n_power_iterations=3)
    spectral_norm_(model, skip=("head",))
    assert not parametrize.is_parametrized(model.head)
    assert type(model.second.parametrizations.weight[0]) is SpectralNorm
    assert model.second.parametrizations.weight[0].n_power_iterations == 3
    model(torch.randn(2, 3, 8, 8))


def test_errors_name_what_is_wrong():
    with pytest.raises(ValueError, match="Linear has no parameter 'wait'"):
        spectral_norm(nn.Linear(2, 2), "wait")
    with pytest.raises(ValueError, match="spectral_norm: n_power_iterations is 0, expected an integer of at least 1"):
        spectral_norm(nn.Linear(2, 2), n_power_iterations=0)
    with pytest.raises(IndexError):
        spectral_norm(nn.Linear(2, 2), dim=2)
    with pytest.raises(TypeError, match="model is int"):
        spectral_norm_(3)
    with pytest.raises(ValueError, match="skip names 'tail'"):
        spectral_norm_(Critic(), skip=("tail",))
    with pytest.raises(ValueError, match="no layer below root"):
        SpectralNormGroup(nn.ReLU())
    with pytest.raises(TypeError, match="root is str"):
        SpectralNormGroup("critic")
