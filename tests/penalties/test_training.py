"""critic_loss in a training loop: accumulation, optimisers, scalers, wrappers, and wrong arguments."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fastgan
from fastgan.penalties import DRAGAN, R1, R2, WGANGP
from tests.penalties.common import ALL, METHODS, assert_same, norms_by_hand, plain
from tests.penalties.critics import CRITICS, batch, build, gradients, textbook

pytestmark = pytest.mark.usefixtures("one_thread")


def test_gradients_accumulate_over_micro_batches(critic, samples, method):
    real, fake = samples
    truth = gradients(
        critic, sum(textbook(critic, real[i : i + 2], fake[i : i + 2], None, plain, r1=2, r2=5) for i in (0, 2))
    )
    critic.zero_grad()
    for i in (0, 2):
        fastgan.critic_loss(critic, real[i : i + 2], fake[i : i + 2], penalties=ALL, method=method).backward()
    assert_same({name: p.grad for name, p in critic.named_parameters()}, truth)


def test_both_micro_batches_before_backward(critic, samples, method):
    real, fake = samples
    truth = gradients(
        critic, sum(textbook(critic, real[i : i + 2], fake[i : i + 2], None, plain, r1=2, r2=5) for i in (0, 2))
    )
    parts = [
        fastgan.critic_loss(critic, real[i : i + 2], fake[i : i + 2], penalties=ALL, method=method) for i in (0, 2)
    ]
    assert_same(gradients(critic, parts[0] + parts[1]), truth)


def test_divided_and_added_to_another_loss(critic, samples, method):
    def other():
        return sum(p.square().sum() for p in critic.parameters()) + critic(samples[0]).square().mean()

    truth = gradients(critic, textbook(critic, *samples, None, plain, r1=2, r2=5) / 4 + other())
    total = fastgan.critic_loss(critic, *samples, penalties=ALL, method=method)
    assert_same(gradients(critic, total / 4 + other()), truth)


def test_a_negative_and_a_zero_factor(critic, samples, method):
    truth = gradients(critic, -textbook(critic, *samples, None, plain, r1=2, r2=5))
    assert_same(gradients(critic, -fastgan.critic_loss(critic, *samples, penalties=ALL, method=method)), truth)
    nothing = gradients(critic, 0 * fastgan.critic_loss(critic, *samples, penalties=ALL, method=method))
    assert not any(g.any() for g in nothing.values())


def test_adam_arrives_at_the_same_weights(critic, samples, method):
    real, fake = samples
    other = copy.deepcopy(critic)
    ours, theirs = (torch.optim.Adam(c.parameters(), 1e-3, (0.5, 0.9)) for c in (critic, other))
    for step in range(5):
        ours.zero_grad()
        fastgan.critic_loss(critic, real + step, fake, penalties=ALL, method=method).backward()
        ours.step()
        theirs.zero_grad()
        textbook(other, real + step, fake, None, plain, r1=2, r2=5).backward()
        theirs.step()
    # Adam divides by the gradient: what is all but zero has a rounding error of any size.
    for (name, p), q in zip(critic.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-7, msg=lambda m, name=name: f"{name}: {m}")


def test_backward_twice_with_retain_graph(critic, samples, method):
    total = fastgan.critic_loss(critic, *samples, penalties=ALL, method=method)
    critic.zero_grad()
    total.backward(retain_graph=True)
    once = {name: p.grad.clone() for name, p in critic.named_parameters()}
    total.backward(retain_graph=True)
    assert_same({name: p.grad / 2 for name, p in critic.named_parameters()}, once)


class ViewBeforeACopy(nn.Module):
    """The penalty's gradient with respect to its points is PyTorch's tensor of zeros without memory."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(16, 1)

    def forward(self, x):
        h = (x * 2).abs_().clone()
        view = h[:, ::2]
        h.copy_(h * 2)
        return self.head(F.leaky_relu(view, 0.2).flatten(1))


def test_a_gradient_of_the_points_that_is_zero(generator):
    critic, samples = ViewBeforeACopy().double(), torch.randn(2, 1, 2, 4, 4, generator=generator, dtype=torch.float64)
    total = fastgan.critic_loss(critic, *samples, penalties=[WGANGP(2.0)], method="double_backward")
    total.backward(retain_graph=True)
    once = critic.head.weight.grad.clone()
    total.backward()
    torch.testing.assert_close(critic.head.weight.grad, 2 * once)


def test_autograd_grad(critic, samples, method):
    truth = gradients(critic, textbook(critic, *samples, None, plain, r1=2, r2=5))
    total = fastgan.critic_loss(critic, *samples, penalties=ALL, method=method)
    found = torch.autograd.grad(total, list(critic.parameters()))
    assert_same(dict(zip(truth, found, strict=True)), truth)
    assert all(p.grad is None or p.grad.abs().sum() for p in critic.parameters())


def test_backward_for_some_of_the_parameters(critic, samples, method):
    truth = gradients(critic, textbook(critic, *samples, None, plain, r1=2, r2=5))
    critic.zero_grad()
    total = fastgan.critic_loss(critic, *samples, penalties=ALL, method=method)
    total.backward(inputs=[critic[0].weight, critic[4].bias])
    assert_same(
        {n: dict(critic.named_parameters())[n].grad for n in ("0.weight", "4.bias")},
        {n: truth[n] for n in ("0.weight", "4.bias")},
    )
    assert critic[2].weight.grad is None


def test_a_hook_on_a_parameter_sees_the_whole_gradient(critic, samples, method):
    truth = gradients(critic, textbook(critic, *samples, None, plain, r1=2, r2=5))
    seen = []
    critic[0].weight.register_hook(lambda g: seen.append(g.clone()))
    fastgan.critic_loss(critic, *samples, penalties=ALL, method=method).backward()
    assert len(seen) == 1
    torch.testing.assert_close(seen[0], truth["0.weight"])


def test_backward_after_the_step_raises(critic, samples, method):
    total = fastgan.critic_loss(critic, *samples, penalties=ALL, method=method)
    with torch.no_grad():
        critic[2].weight.mul_(0.9)
    message = (
        "was modified in place between critic_loss" if method == "one_pass" else "modified by an inplace operation"
    )
    with pytest.raises(RuntimeError, match=message):
        total.backward()


@pytest.mark.parametrize("method", [pytest.param("one_pass"), "double_backward"])
def test_a_frozen_weight_that_changed_raises(critic, samples, method):
    """Its gradient is not asked for, but the others' depend on it."""
    critic[2].requires_grad_(False)
    total = fastgan.critic_loss(critic, *samples, penalties=ALL, method=method)
    with torch.no_grad():
        critic[2].weight.mul_(3)
    with pytest.raises(RuntimeError, match="modified"):
        total.backward()


def test_only_double_backward_can_be_differentiated_again(critic, samples):
    weight = critic[0].weight
    total = fastgan.critic_loss(critic, *samples, penalties=ALL, method="double_backward")
    (g,) = torch.autograd.grad(total, weight, create_graph=True)
    expected = textbook(critic, *samples, None, plain, r1=2, r2=5)
    (h,) = torch.autograd.grad(expected, weight, create_graph=True)
    torch.testing.assert_close(
        torch.autograd.grad(g.square().sum(), weight)[0], torch.autograd.grad(h.square().sum(), weight)[0]
    )
    total = fastgan.critic_loss(critic, *samples, penalties=ALL, method="one_pass")
    other = weight.square().sum()  # must not hide that the other term has lost its derivative
    with pytest.raises(RuntimeError, match="differentia"):
        (torch.autograd.grad(total, weight, create_graph=True)[0].square().sum() + other).backward()


@pytest.mark.parametrize("penalties", [(R1(2.0),), (R2(2.0),), ALL, (WGANGP(2.0),)])
def test_a_partial_second_derivative_raises_however_it_is_asked_for(critic, samples, penalties):
    """autograd.grad visits nodes only on its way to the parameters; autograd knows a part of what the gradient is."""
    parameters = list(critic.parameters())
    total = fastgan.critic_loss(critic, *samples, penalties=penalties, method="one_pass")
    found = torch.autograd.grad(total, parameters, create_graph=True, allow_unused=True)
    size = sum(g.square().sum() for g in found if g is not None) + sum(p.square().sum() for p in parameters)
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        torch.autograd.grad(size, parameters, allow_unused=True)
    alone = fastgan.gradient_penalty(critic, samples[0], R1(2.0), method="one_pass")
    (g,) = torch.autograd.grad(alone, parameters[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        torch.autograd.grad(g.square().sum(), parameters[-2:], allow_unused=True)
    weight = torch.ones((), requires_grad=True, dtype=torch.float64)
    total = weight * fastgan.critic_loss(critic, *samples, penalties=penalties, method="one_pass")
    (g,) = torch.autograd.grad(total, parameters[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        torch.autograd.grad(g.square().sum(), weight)


def test_a_loss_that_changes_the_outputs_in_place(critic, samples, method):
    def hinge(real, fake):
        return F.relu(real.neg_().add_(1)).mean() + F.relu(fake.add_(1)).mean()

    def plainly(real, fake):
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()

    truth = gradients(critic, textbook(critic, *samples, None, plainly, r1=2, r2=5))
    total = fastgan.critic_loss(critic, *samples, loss=hinge, penalties=ALL, method=method)
    assert_same(gradients(critic, total), truth)
    torch.testing.assert_close(total.real_logits, critic(samples[0]).detach())


@pytest.mark.parametrize("activation", [nn.LeakyReLU(0.2), nn.Tanh()])
def test_samples_that_are_numbers(generator, activation):
    """x of shape [B], as in DiracGAN."""
    net = nn.Sequential(nn.Unflatten(0, (-1, 1)), nn.Linear(1, 4), activation, nn.Linear(4, 1)).double()
    real, fake = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    total = fastgan.critic_loss(net, real, fake, penalties=[WGANGP(2.0), R1(1.0)])
    x = real.clone().requires_grad_()
    (g,) = torch.autograd.grad(net(x).sum(), x)
    torch.testing.assert_close(total.gradient_norms["r1"], g.abs())


@pytest.mark.parametrize("penalties", [ALL, (R1(1.0),), (WGANGP(10.0),), ()], ids=["both", "r1", "wgan-gp", "none"])
def test_no_gradient_reaches_the_samples(critic, samples, method, penalties):
    real, fake = (x.clone().requires_grad_() for x in samples)
    generated = fake * 1.5
    generated.retain_grad()
    fastgan.critic_loss(critic, real, generated, penalties=penalties, method=method).backward()
    assert real.grad is None
    assert fake.grad is None
    assert generated.grad is None


def test_under_no_grad_it_is_a_number(critic, samples, method):
    expected = textbook(critic, *samples, None, plain, r1=2, r2=5)
    with torch.no_grad():
        total = fastgan.critic_loss(critic, *samples, penalties=ALL, method=method)
    assert not total.requires_grad
    torch.testing.assert_close(total.detach().item(), expected.item())


def test_grad_scaler(critic, samples, method):
    """On the CPU; float32, as the scaler wants it."""
    critic, real, fake = critic.float(), *(x.float() for x in samples)
    found = []
    for scaled in (False, True):
        other = copy.deepcopy(critic)
        optimiser, scaler = torch.optim.SGD(other.parameters(), 0.1), torch.amp.GradScaler("cpu", enabled=scaled)
        total = fastgan.critic_loss(other, real, fake, penalties=ALL, method=method)
        scaler.scale(total).backward()
        scaler.step(optimiser)
        scaler.update()
        found.append(dict(other.named_parameters()))
    for name, p in found[0].items():
        torch.testing.assert_close(found[1][name], p, rtol=1e-5, atol=1e-6)


# --- critics of all kinds -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_tuple", [False, True])
def test_labels_of_both_kinds(method, as_tuple):
    critic = build(CRITICS["projection"])
    real, fake, labels = batch(CRITICS["projection"], 4)
    other = (labels + 1) % 5

    def reference() -> Tensor:
        d_real, norm_real = norms_by_hand(critic, real, labels)
        d_fake, norm_fake = norms_by_hand(critic, fake, other)
        return plain(d_real, d_fake) + norm_real.square().mean() + 2.5 * norm_fake.square().mean()

    truth = gradients(critic, reference())
    given, fake_given = ((labels,), (other,)) if as_tuple else (labels, other)
    total = fastgan.critic_loss(critic, real, fake, labels=given, fake_labels=fake_given, penalties=ALL, method=method)
    assert_same(gradients(critic, total), truth)


def test_several_further_arguments(method):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.head = nn.Linear(6, 8), nn.Linear(8, 1)

        def forward(self, x, gain, shift):
            return self.head(F.leaky_relu(self.layer(x) * gain + shift, 0.2))

    critic, real, fake = Two().double(), *torch.randn(2, 4, 6).double()
    labels = torch.rand(4, 8).double(), torch.rand(4, 8).double().requires_grad_()
    outside = labels[1]
    d_real, norm_real = norms_by_hand(critic, real, *labels)
    truth = gradients(critic, plain(d_real, critic(fake, *labels)) + norm_real.square().mean())
    expected, outside.grad = outside.grad, None
    total = fastgan.critic_loss(critic, real, fake, labels=labels, penalties=(R1(2.0),), method=method)
    assert_same(gradients(critic, total), truth)
    torch.testing.assert_close(outside.grad, expected)


def test_other_numbers_of_fakes_than_of_reals(critic, method):
    real, fake = torch.randn(3, 3, 8, 8).double(), torch.randn(5, 3, 8, 8).double()
    truth = gradients(critic, textbook(critic, real, fake, None, plain, r1=2, r2=5))
    assert_same(gradients(critic, fastgan.critic_loss(critic, real, fake, penalties=ALL, method=method)), truth)


WRAPPERS = {
    "function": lambda c: lambda x: c(x),
    "bound method": lambda c: c.forward,
    "torch.compile": lambda c: torch.compile(c, backend="eager"),
    "DataParallel": nn.DataParallel,
    "sequence": lambda c: nn.Sequential(nn.Identity(), c),
}


@pytest.mark.parametrize("method", [*METHODS, "auto"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrapped_critics(critic, samples, wrapper, method):
    truth = gradients(critic, textbook(critic, *samples, None, plain, r1=2, r2=5))
    wrapped = WRAPPERS[wrapper](critic)
    total = fastgan.critic_loss(wrapped, *samples, penalties=ALL, method=method)
    assert total.method == ("one_pass" if method == "auto" else method)
    assert_same(gradients(critic, total), truth)


def test_a_scripted_critic(critic, samples):
    scripted = torch.jit.script(critic)
    truth = gradients(scripted, textbook(scripted, *samples, None, plain, r1=2, r2=5))
    total = fastgan.critic_loss(scripted, *samples, penalties=ALL)
    assert_same(gradients(scripted, total), truth)


def test_buffers_that_are_not_there_yet():
    critic = nn.Sequential(nn.Linear(6, 8), nn.LazyBatchNorm1d(), nn.ReLU(), nn.Linear(8, 1))
    fastgan.critic_loss(critic, torch.randn(4, 6), torch.randn(4, 6)).backward()


def test_frozen_critic_parameters_get_nothing(critic, samples, method):
    critic[0].requires_grad_(False)
    truth = gradients(critic, textbook(critic, *samples, None, plain, r1=2, r2=5))
    total = fastgan.critic_loss(critic, *samples, penalties=ALL, method=method)
    assert_same(gradients(critic, total), truth)
    assert critic[0].weight.grad is None


# --- wrong arguments ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"loss": "other"}, ValueError, "loss is 'other', expected one of nonsaturating"),
        ({"loss": 3}, TypeError, "loss is int, expected a name"),
        ({"method": "fast"}, ValueError, "method is 'fast', expected one of auto, one_pass, double_backward"),
        ({"real": torch.zeros(4, 3, 8, 8, dtype=torch.int64)}, TypeError, "real is torch.int64, expected a floating"),
        ({"fake": [1.0]}, TypeError, "fake is list, expected a floating"),
        ({"real": torch.tensor(1.0)}, ValueError, "real has no dimensions"),
        (
            {"fake": torch.zeros(3, 3, 8, 8).double(), "penalties": (WGANGP(1.0),)},
            ValueError,
            r"fake has shape \[3, 3, 8, 8\]",
        ),
        ({"loss": lambda r, f: r}, ValueError, r"loss returned shape \[4, 1, 1, 1\], expected a scalar"),
        ({"loss": lambda r, f: 1.0}, ValueError, "loss returned float, expected a scalar"),
    ],
)
@pytest.mark.parametrize("chosen", METHODS)
def test_wrong_arguments_are_named(critic, samples, chosen, change, error, message):
    arguments = {"real": samples[0], "fake": samples[1], "method": chosen} | change
    with pytest.raises(error, match=message):
        fastgan.critic_loss(critic, **arguments)


@pytest.mark.parametrize("make", [lambda: R1(-1.0), lambda: WGANGP(target=float("nan")), lambda: DRAGAN(deviation=-1)])
def test_wrong_penalties_are_named(make):
    with pytest.raises(ValueError, match="expected a finite number >= 0"):
        make()
