"""Critics with attention by double backward: PyTorch's functions go through fastgan's, exactly and in linear memory."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from fastgan.losses import hinge
from fastgan.ops.attention import autograd, functional
from fastgan.penalties import R1, R2, WGANGP, critic_loss
from fastgan.penalties.lean import lean_derivatives
from tests.penalties.critics import gradients, relative_error


def draw(*shape):
    return torch.randn(shape, dtype=torch.float64)


@pytest.fixture
def applied(monkeypatch):
    """Counts the calls that `attention` takes."""
    calls = []
    original = autograd.Attention.apply
    monkeypatch.setattr(autograd.Attention, "apply", lambda *args: calls.append(args[0].shape) or original(*args))
    return calls


def second_gradient(function, inputs, ours):
    with lean_derivatives() if ours else sdpa_kernel(SDPBackend.MATH):
        y = function(*inputs)
        first = torch.autograd.grad(y.sin().sum(), inputs, create_graph=True)
        penalty = sum(g.square().sum() for g in first)
        return [y, *first, *torch.autograd.grad(penalty, inputs)]


def agree(function, inputs):
    expected = second_gradient(function, inputs, ours=False)
    for found, truth in zip(second_gradient(function, inputs, ours=True), expected, strict=True):
        torch.testing.assert_close(found, truth, rtol=1e-9, atol=1e-10)


MASKS = {
    "none": {}, "causal": {"is_causal": True}, "scale": {"scale": 0.3},
    "boolean": {"attn_mask": torch.tensor([[1, 1, 0, 1, 1], [1, 0, 1, 1, 0], [0, 0, 0, 0, 1], [1, 1, 1, 1, 1]]) > 0},
    "additive": {"attn_mask": torch.linspace(-1, 1, 60, dtype=torch.float64).view(3, 4, 5)},
}  # fmt: skip


@pytest.mark.parametrize("mask", MASKS)
def test_scaled_dot_product_attention_is_torchs(mask, applied, generator):
    inputs = [draw(2, 3, 4, 6).requires_grad_(), draw(2, 3, 5, 6).requires_grad_(), draw(2, 3, 5, 2).requires_grad_()]
    agree(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **MASKS[mask]), inputs)
    assert len(applied) == 1


LEFT = {
    "dropout": {"dropout_p": 0.5}, "grouped heads": {"enable_gqa": True},
}  # fmt: skip


@pytest.mark.parametrize("what", LEFT)
def test_what_is_left_to_torch(what, applied, generator):
    q, k = draw(2, 4, 3, 6).requires_grad_(), draw(2, 2 if what == "grouped heads" else 4, 5, 6)
    with lean_derivatives():
        torch.manual_seed(0)
        found = F.scaled_dot_product_attention(q, k, k, **LEFT[what])
    torch.manual_seed(0)
    assert torch.equal(found, F.scaled_dot_product_attention(q, k, k, **LEFT[what]))
    with lean_derivatives(), pytest.raises(RuntimeError, match="dtype"):
        F.scaled_dot_product_attention(q, k.float(), k)
    assert not applied


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(
    "case", ["self", "cross", "no bias", "mask", "mask of heads", "padding", "mask and padding", "weights"]
)
def test_multi_head_attention_is_torchs(case, batch_first, applied, generator):
    layer = nn.MultiheadAttention(12, 3, bias=case != "no bias", batch_first=batch_first, dtype=torch.float64)
    x, y = draw(4, 4, 12).requires_grad_(), draw(4, 4, 12).requires_grad_()
    options = {"need_weights": case == "weights"}
    if case in ("mask", "mask and padding"):
        options["attn_mask"] = torch.ones(4, 4).triu(1) > 0
    if case == "mask of heads":
        options["attn_mask"] = draw(12, 4, 4)
    if "padding" in case:
        options["key_padding_mask"] = torch.tensor([[False, False, False, True]] * 4)
    weights = list(layer.parameters())

    def function(*inputs):
        return layer(x, *((y, y) if case == "cross" else (x, x)), **options)[0]

    agree(function, [x, *weights] if case != "cross" else [x, y, *weights])
    assert len(applied) == (case != "weights")


def test_boolean_masks_of_multi_head_attention_mean_the_opposite(generator):
    """True is masked in nn.MultiheadAttention, and kept in scaled_dot_product_attention."""
    layer, x = nn.MultiheadAttention(4, 2, dtype=torch.float64), draw(3, 1, 4).requires_grad_()
    mask = torch.tensor([[False, True, True]] * 3)
    with lean_derivatives():
        found, _ = layer(x, x, x, need_weights=False, attn_mask=mask)
        weights = (layer.in_proj_weight, layer.in_proj_bias, None, None, False, 0.0, layer.out_proj.weight)
        direct, _ = F.multi_head_attention_forward(
            x, x, x, 4, 2, *weights, layer.out_proj.bias, need_weights=False, attn_mask=mask
        )
    expected, _ = layer(x, x, x, need_weights=False, attn_mask=mask)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(direct, expected)


def test_the_composed_form_stays_where_it_was_chosen(applied, generator):
    q = draw(2, 3, 4).requires_grad_()
    with lean_derivatives(), sdpa_kernel(SDPBackend.MATH):
        value = F.scaled_dot_product_attention(q, q, q).square().sum()
        for _ in range(3):
            (g,) = torch.autograd.grad(value, q, create_graph=True)
            value = g.square().sum()
    assert not applied


class TokenCritic(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 16)
        self.block = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, activation=F.gelu, batch_first=True)
        self.head = nn.Linear(16, 1)

    def forward(self, x):
        return self.head(self.block(self.embed(x)).mean(1)).squeeze(1)


def test_a_transformer_critic_takes_r1(applied, generator):
    """PyTorch raises for its fused attention, and nn.TransformerEncoderLayer calls nothing else."""
    critic = TokenCritic().double()
    twin = copy.deepcopy(critic)
    real, fake = draw(3, 20, 3), draw(3, 20, 3)
    critic_loss(critic, real, fake, loss=hinge, penalties=[R1(2.0)]).backward()
    assert applied
    x = real.clone().requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):
        of_real = twin(x)
        (g,) = torch.autograd.grad(of_real.sum(), x, create_graph=True)
        loss = F.relu(1 - of_real).mean() + F.relu(1 + twin(fake)).mean() + g.square().sum((1, 2)).mean()
        loss.backward()
    for a, b in zip(critic.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-8, atol=1e-10)


def test_autocast_casts_as_torch_does(generator):
    q = torch.randn(2, 5, 4, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert functional.scaled_dot_product_attention(q, q, q).dtype == torch.bfloat16
        assert F.scaled_dot_product_attention(q, q, q).dtype == torch.bfloat16
    assert math.isfinite(functional.scaled_dot_product_attention(q, q, q).sum().item())


ATTEND = {
    "fused": lambda critic, h: F.scaled_dot_product_attention(h, h, h),
    "causal": lambda critic, h: F.scaled_dot_product_attention(h, h, h, is_causal=True),
    "module": lambda critic, h: critic.attention(h, h, h, need_weights=False)[0],
    "layer": lambda critic, h: critic.layer(h),
}


class Checkpointed(nn.Module):
    def __init__(self, attend, again):
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 1)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True)
        self.attend, self.again = attend, again

    def forward(self, x):
        def region(h):
            return self.attend(self, F.leaky_relu(h, 0.2)) + h

        h = self.first(x)
        h = checkpoint(region, h, use_reentrant=False) if self.again else region(h)
        return self.last(h).mean((1, 2))


@pytest.mark.parametrize("penalties", [(R1(2.0),), (R1(2.0), R2(1.0)), (WGANGP(2.0),)], ids=str)
@pytest.mark.parametrize("attend", ATTEND)
def test_attention_under_a_checkpoint_computes_the_same_again(attend, penalties, applied, seed):
    """In the backward pass, where nobody replaces functions any more."""
    torch.manual_seed(seed)
    critic, (real, fake) = Checkpointed(ATTEND[attend], again=True).double(), draw(2, 3, 5, 4)
    plain = copy.deepcopy(critic)
    plain.again = False
    with sdpa_kernel(SDPBackend.MATH):  # by PyTorch's composed form
        torch.manual_seed(1)
        truth = gradients(plain, critic_loss(plain, real, fake, penalties=penalties, method="double_backward"))
    assert not applied
    for method in ("double_backward", "auto"):
        torch.manual_seed(1)
        total = critic_loss(critic, real, fake, penalties=penalties, method=method)
        assert relative_error(gradients(critic, total), truth) <= 1e-9
    assert applied


MALFORMED = {
    "one row": {"attn_mask": torch.zeros(1, 5)},
    "one column": {"attn_mask": torch.zeros(5, 1)},
    "no heads": {"attn_mask": torch.zeros(3, 5, 5)},
    "padding of one sample": {"key_padding_mask": torch.zeros(1, 5)},
    "padding of one key": {"key_padding_mask": torch.zeros(3, 1)},
}


@pytest.mark.parametrize("case", MALFORMED)
def test_masks_that_torch_refuses_are_refused(case, applied):
    layer, x = nn.MultiheadAttention(4, 2, batch_first=True), torch.randn(3, 5, 4).requires_grad_()
    masks = {name: mask.to(x.dtype) for name, mask in MALFORMED[case].items()}
    with lean_derivatives(), pytest.raises((RuntimeError, AssertionError), match=r"attn_mask|key_padded_mask"):
        layer(x, x, x, need_weights=False, **masks)
    heads = x[:, None]
    with lean_derivatives(), pytest.raises((IndexError, RuntimeError)):
        F.scaled_dot_product_attention(heads, heads, heads, attn_mask=torch.zeros(5))
    assert not applied


@pytest.mark.parametrize("padded", [False, True])
def test_the_hint_that_a_mask_is_causal_is_believed_as_torch_believes_it(padded, applied, generator):
    layer, x = nn.MultiheadAttention(4, 2, batch_first=True, dtype=torch.float64), draw(3, 5, 4).requires_grad_()
    options = {"attn_mask": draw(5, 5), "is_causal": True, "need_weights": False}
    if padded:
        options["key_padding_mask"] = torch.tensor([[False] * 4 + [True]] * 3)
    agree(lambda *inputs: layer(inputs[0], inputs[0], inputs[0], **options)[0], [x, *layer.parameters()])
    assert len(applied) == 1


def test_where_attention_is_left_to_torch_the_error_says_what_helps(generator):
    layer = nn.MultiheadAttention(4, 2, batch_first=True, add_zero_attn=True, dtype=torch.float64)

    def critic(x):
        return F.relu(layer(x, x, x, need_weights=False)[0]).mean((1, 2))

    real, fake = draw(2, 3, 5, 4)
    with pytest.raises(RuntimeError, match=r"scaled_dot_product.*sdpa_kernel\(SDPBackend.MATH\)"):
        critic_loss(critic, real, fake, penalties=[R1(2.0)])
    with sdpa_kernel(SDPBackend.MATH):
        critic_loss(critic, real, fake, penalties=[R1(2.0)]).backward()
