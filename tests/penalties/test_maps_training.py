"""Maps, lists and features in training: the generator's side, compiled passes, half precision, packs, processes."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fastgan
from fastgan.losses import Loss, feature_matching, hinge, over_outputs, relativistic_pairing
from fastgan.penalties import R1, R2
from fastgan.penalties import eligibility as remembered
from tests.penalties.common import METHODS, assert_same
from tests.penalties.critics import gradients, relative_error
from tests.penalties.several import KINDS, patchgan, textbook
from tests.penalties.test_maps import LOSSES, build, compare, summed
from tests.rotation import in_turn

pytestmark = pytest.mark.usefixtures("one_thread")

AFFINE = [name for name, kind in KINDS.items() if kind.affine and not kind.labels]


# --- the generator's side ---------------------------------------------------------------------------------------------


def generator(kind) -> nn.Module:
    size = torch.Size(kind.shape).numel()
    return nn.Sequential(nn.Linear(5, size), nn.Unflatten(1, kind.shape)).double()


@pytest.mark.parametrize("reduce", ["sum", "mean"])
@pytest.mark.parametrize("loss", ["nonsaturating", "hinge", "relativistic_pairing"])
@pytest.mark.parametrize("kind", in_turn([*AFFINE, "batch norm"], "generators of maps", 4))
def test_the_generator_s_loss(kind, loss, reduce, method):
    kind = KINDS[kind]
    if method == "one_pass" and not kind.affine:
        return
    critic, real, _, _ = build(kind)
    net, z = generator(kind), torch.randn(3, 5).double()
    other = copy.deepcopy(critic)
    of_fake, of_real = kind.judged(other(net(z))), kind.judged(other(real))
    each = fastgan.losses.LOSSES[loss].generator
    truth_loss = sum(each(f, r.detach()) for f, r in zip(of_fake, of_real, strict=True))
    truth = gradients(net, truth_loss)
    total = fastgan.critic_loss(
        critic, real, net(z), loss=loss, penalties=(R2(1.0),), judge=kind.judge, reduce=reduce, method=method
    )
    found = fastgan.generator_loss_from(total)
    assert abs(found.item() - truth_loss.item()) <= 1e-9
    total.backward(retain_graph=True)
    for value in (found, fastgan.generator_loss_from(total)):
        of_net = torch.autograd.grad(value, list(net.parameters()), retain_graph=True)
        assert_same(dict(zip(truth, of_net, strict=True)), truth)


def test_equal_slopes_need_no_graph(method):
    critic, real, _, _ = build(KINDS["patchgan"])
    net, z = generator(KINDS["patchgan"]), torch.randn(3, 5).double()
    truth = gradients(net, -critic(net(z)).mean())
    total = fastgan.critic_loss(critic, real, net(z), penalties=(R2(1.0),), method=method)
    total.backward()
    with pytest.raises(ValueError, match=r"slopes of the loss differ within a sample.*before total\.backward"):
        fastgan.generator_loss_from(total)
    assert_same(gradients(net, fastgan.generator_loss_from(total, "wasserstein")), truth)


def test_a_changed_weight_is_noticed():
    critic, real, _, _ = build(KINDS["multi-scale"])
    net, z = generator(KINDS["multi-scale"]), torch.randn(3, 5).double()
    total = fastgan.critic_loss(critic, real, net(z), penalties=(R2(1.0),), method="one_pass")
    with torch.no_grad():
        next(critic.parameters()).mul_(2)
    with pytest.raises(RuntimeError, match="modified in place"):
        fastgan.generator_loss_from(total)


# --- the loss's way through autograd, or through another T ------------------------------------------------------------


@pytest.mark.parametrize("kind", in_turn(["patchgan", "u-net", "multi-period", "several of a dict"], "ways", 2))
def test_both_ways_give_the_same(kind):
    """A critic is not known to give a map before it has; then autograd keeps its activations."""
    kind = KINDS[kind]
    critic, real, fake, _ = build(kind)
    other = copy.deepcopy(critic)
    loss = summed(kind, LOSSES["hinge"])
    truth = gradients(other, textbook(kind, other, real, fake, (), loss, {"r1": 2.0, "r2": 1.0})[0])
    for first in (True, False):
        assert remembered.graph_was_needed(critic) is not first
        total = fastgan.critic_loss(
            critic, real, fake, loss="hinge", penalties=(R1(2.0), R2(1.0)), judge=kind.judge, method="one_pass"
        )
        critic.zero_grad()
        total.backward(retain_graph=True)
        once = {name: p.grad.clone() for name, p in critic.named_parameters()}
        assert_same(once, truth)
        (2 * total).backward()
        assert_same({name: p.grad for name, p in critic.named_parameters()}, {n: 3 * g for n, g in truth.items()})
        with pytest.raises(RuntimeError, match="second time"):
            total.backward()


def test_changed_samples_are_noticed():
    critic, real, fake, _ = build(KINDS["patchgan"])
    for _ in range(2):
        total = fastgan.critic_loss(critic, real, fake, loss="hinge", method="one_pass")
        real.add_(1)
        with pytest.raises(RuntimeError, match="modified"):
            total.backward()


def test_one_pass_keeps_less_than_double_backward_in_a_map_too():
    """The first step, which keeps masks and no activations, and those after it."""
    critic = patchgan(width=8)
    x = torch.randn(8, 3, 64, 64)
    held = {}
    for name, method in (("double", "double_backward"), ("first", "one_pass"), ("next", "one_pass")):
        sizes = {}

        def pack(t, sizes=sizes):
            sizes[t.untyped_storage()._cdata] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            total = fastgan.critic_loss(critic, x, x, loss="hinge", penalties=(R1(1.0), R2(1.0)), method=method)
        held[name] = sum(sizes.values())
        total.backward()
    assert held["first"] < held["next"] < held["double"], held


class Scaled(torch.autograd.Function):
    """Gives zeros rather than nothing where no gradient comes."""

    @staticmethod
    def forward(ctx, weight, by):
        ctx.save_for_backward(weight, by)
        return weight * by

    @staticmethod
    def backward(ctx, gradient):
        weight, by = ctx.saved_tensors
        return gradient * by, gradient * weight


class WithAnUnusedHead(nn.Module):
    """Its second output is in no loss; its weight is made of a buffer that changes, its constant changes later."""

    def __init__(self, changes: bool):
        super().__init__()
        self.changes = changes
        self.body, self.head, self.scale = nn.Linear(4, 6), nn.Linear(6, 1), nn.Parameter(torch.rand(6) + 0.5)
        self.register_buffer("steps", torch.ones(6))
        self.constant = torch.ones(6, dtype=torch.float64)

    def forward(self, x):
        h = F.leaky_relu(self.body(x), 0.2)
        features = h * Scaled.apply(self.scale, self.steps * self.scale) * self.constant
        if self.changes:
            with torch.no_grad():
                self.steps += 1
        return self.head(h).squeeze(1), features


@pytest.mark.filterwarnings("error:fastgan")
@pytest.mark.parametrize("compile", [False, "aot_eager"])
def test_a_head_that_no_loss_uses_gets_no_gradient_and_may_change(compile, fresh_dynamo):
    torch.manual_seed(0)
    critic = WithAnUnusedHead(changes=not compile).double()  # the compiler does not tell what only this head needs
    real, fake = torch.randn(2, 3, 4).double()

    def loss(real_outputs, fake_outputs):
        return F.softplus(-real_outputs[0]).mean() + F.softplus(fake_outputs[0]).mean()

    truth = gradients(critic, textbook_of_first(critic, real, fake))
    assert critic.scale.grad is None
    for _ in range(3):
        critic.zero_grad()
        total = fastgan.critic_loss(
            critic, real, fake, loss=loss, penalties=(R1(2.0), R2(1.0)), judge=0, method="one_pass", compile=compile
        )
        if critic.changes:
            critic.constant.add_(1)
        assert_same(gradients(critic, total), truth)
        assert critic.scale.grad is None


def textbook_of_first(critic, real, fake):
    """The logistic loss of the first output, R1(2) and R2(1)."""
    total = 0.0
    for x, sign, weight in ((real, -1, 1.0), (fake, 1, 0.5)):
        x = x.clone().requires_grad_()
        output, _ = critic(x)
        (g,) = torch.autograd.grad(output.sum(), x, create_graph=True)
        total = total + F.softplus(sign * output).mean() + weight * g.square().sum(1).mean()
    return total


# --- compiled ---------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error:fastgan.critic_loss runs without")
@pytest.mark.parametrize("penalties", [{"r1": 2.0, "r2": 1.0}, {"r1": 1.0, "wgan-gp": 1.0}])
@pytest.mark.parametrize("kind", in_turn([name for name, kind in KINDS.items() if kind.affine], "compiled", 2))
def test_compiled(kind, penalties, fresh_dynamo):
    kind = KINDS[kind]
    loss = summed(kind, LOSSES["hinge"])
    for reduce in ("sum", "mean"):
        compare(kind, loss, penalties, given="hinge", method="one_pass", compile="aot_eager", calls=2, reduce=reduce)


@pytest.mark.filterwarnings("error:fastgan.critic_loss runs without")
@pytest.mark.parametrize(
    ("kind", "loss"),
    [
        ("features", lambda r, f: F.softplus(f[0] - r[0]).mean() + (r[1] - f[1]).abs().mean()),
        ("a dict", lambda r, f: LOSSES["hinge"](r["logit"], f["logit"])),
        ("multi-period", lambda r, f: LOSSES["hinge"](r[0][0], f[0][0]) + r[1][1][0].mean()),
    ],
)
def test_compiled_with_a_function(kind, loss, fresh_dynamo):
    compare(KINDS[kind], loss, {"r1": 2.0, "r2": 1.0}, method="one_pass", compile="eager", calls=2)


def test_compiled_by_inductor(fresh_dynamo):
    compare(
        KINDS["u-net"], summed(KINDS["u-net"], LOSSES["hinge"]), {"r1": 2.0}, given="hinge", method="one_pass",
        compile=True, calls=2,
    )  # fmt: skip


# --- half precision ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["patchgan", "multi-scale", "u-net", "features"])
def test_half_precision_is_as_exact_as_double_backward(kind, dtype):
    kind = KINDS[kind]
    critic, real, fake, _ = build(kind)
    critic, real, fake = critic.float(), real.float(), fake.float()
    exact = copy.deepcopy(critic).double()
    loss = summed(kind, LOSSES["least_squares"])
    penalties = {"r1": 2.0, "r2": 1.0}
    truth = gradients(exact, textbook(kind, exact, real.double(), fake.double(), (), loss, penalties)[0])
    errors = []
    for options in ({"method": "double_backward"}, {"method": "one_pass"}, {"method": "one_pass"}):
        with torch.autocast("cpu", dtype=dtype):
            total = fastgan.critic_loss(
                critic, real, fake, loss="least_squares", penalties=(R1(2.0), R2(1.0)), judge=kind.judge, **options
            )
        found = gradients(critic, 2.0**14 * total)
        errors.append(relative_error({n: g.double() / 2**14 for n, g in found.items()}, truth))
    double, *one = errors
    assert max(one) <= max(2 * double, 0.02), errors


# --- packs, processes, losses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_packed_critic_of_patches(method):
    inside = nn.Sequential(nn.Conv2d(6, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3)).double()
    real, fake = torch.randn(2, 6, 3, 8, 8).double()
    other = copy.deepcopy(inside)
    packs = [x.reshape(3, 6, 8, 8) for x in (real, fake)]
    kind = KINDS["patchgan"]
    truth = gradients(other, textbook(kind, other, *packs, (), LOSSES["hinge"], {"r1": 2.0, "r2": 1.0})[0])
    critic = fastgan.nn.PackedCritic(inside, 2)
    total = fastgan.critic_loss(critic, real, fake, loss="hinge", penalties=(R1(2.0), R2(1.0)), method=method)
    assert_same(gradients(inside, total), truth)


def test_entries_of_dicts_are_paired_by_their_keys(generator):
    a, b, c, d = torch.randn(4, 5, generator=generator)
    loss = over_outputs(relativistic_pairing)
    assert loss.critic({"fine": a, "coarse": [b]}, {"coarse": [d], "fine": c}) == loss.critic([a, [b]], [c, [d]])
    assert not torch.isclose(loss.critic([a, [b]], [c, [d]]), loss.critic([a, [b]], [d, [c]]))


def test_over_outputs_sums_both_players():
    r, f = [torch.randn(3, 1, 2, 2), torch.randn(3, 1)], [torch.randn(3, 1, 2, 2), torch.randn(3, 1)]
    loss = over_outputs(hinge)
    assert loss.critic(r, f) == sum(hinge.critic(a, b) for a, b in zip(r, f, strict=True))
    assert loss.generator(f, None) == sum(hinge.generator(b) for b in f)
    assert loss.critic(r[0], f[0]) == hinge.critic(r[0], f[0])
    assert loss.critic({"a": r[0]}, {"a": f[0]}) == hinge.critic(r[0], f[0])
    with pytest.raises(ValueError, match="expected as many tensors in both"):
        loss.critic(r, f[:1])
    with pytest.raises(TypeError, match="loss is str"):
        over_outputs("hinge")


def test_feature_matching_of_lists_is_added_up():
    r, f = [torch.randn(3, 4), [torch.randn(3, 2, 5)]], [torch.randn(2, 4), [torch.randn(2, 2, 5)]]
    expected = feature_matching(r[0], f[0]) + feature_matching(r[1][0], f[1][0])
    torch.testing.assert_close(feature_matching(r, f), expected)
    with pytest.raises(ValueError, match="as many tensors"):
        feature_matching(r, f[:1])


@pytest.mark.parametrize("method", ["auto", "double_backward"])
def test_a_loss_with_a_witness_judges_one_tensor(method, seed):
    """A vector of several outputs: features of the sliced Wasserstein game."""
    head = nn.Linear(6, 8).double()
    real, fake = torch.randn(2, 3, 6).double()
    expected = fastgan.critic_loss(head, real, fake, loss="mmd", penalties=(R1(1.0),))
    found = fastgan.critic_loss(
        lambda x: {"features": head(x), "logit": head(x)[:, 0]}, real, fake, loss="mmd", penalties=(R1(1.0),),
        judge="features", method=method,
    )  # fmt: skip
    torch.testing.assert_close(found.detach(), expected.detach())
    with pytest.raises(TypeError, match="expected one tensor for a loss of several numbers"):
        fastgan.critic_loss(lambda x: [head(x), head(x)], real, fake, loss="mmd", penalties=(R1(1.0),))


def test_a_loss_of_one_s_own_is_added_up():
    mine = Loss("mine", LOSSES["least_squares"], lambda f, r: (f - 1).square().mean(), "")
    compare(KINDS["multi-scale"], summed(KINDS["multi-scale"], LOSSES["least_squares"]), {"r1": 1.0}, given=mine)
