"""Every rule by a critic that reaches it, every operation in place, and what is taken for constant."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fastgan
from fastgan.affine import NotAffineError
from fastgan.affine.rules import CONSTANT, IN_PLACE, RULES, refused
from fastgan.ops.convolution.autograd import Convolution
from fastgan.ops.convolution.passes import ConvolutionConfig
from fastgan.penalties import R1, R2
from tests.affine.one_output import record
from tests.penalties.critics import gradients, relative_error, textbook

pytestmark = pytest.mark.usefixtures("one_thread")
aten = torch.ops.aten


def loss(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real).mean() + F.softplus(fake).mean()


I = torch.tensor  # noqa: E741
WIDE = (2, 4, 6, 6)
FILTER = fastgan.ops.setup_filter([1, 3, 3, 1])


def bool_mask(h: Tensor) -> Tensor:
    return (torch.arange(h.numel()) % 3 == 0).view(h.shape)


def weight(*shape: int) -> Tensor:
    return torch.linspace(-1, 1.3, torch.Size(shape).numel(), dtype=torch.float64).view(shape)


POINTWISE = ConvolutionConfig((1, 1), (0, 0), (1, 1), False, (0, 0), 1, "matmul")
TRANSPOSED = ConvolutionConfig((2, 2), (1, 1), (1, 1), True, (1, 1), 1, "minimal filtering")

# For each operation a function of h [2, 4, 6, 6] (or of its flattened maps) and of a parameter p [4].


def dropout(h: Tensor) -> Tensor:
    """With the same mask at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.native_dropout(h, 0.4, True)[0]


CALLS = {
    "aten.leaky_relu.default": lambda h, p: F.leaky_relu(h, 0.3),
    "aten.leaky_relu_.default": lambda h, p: F.leaky_relu_(h, 0.3),
    "aten.relu.default": lambda h, p: h.relu(),
    "aten.relu_.default": lambda h, p: h.relu_(),
    "aten.abs.default": lambda h, p: h.abs(),
    "aten.hardtanh.default": lambda h, p: F.hardtanh(h, -0.5, 0.6),
    "aten.clamp.default": lambda h, p: h.clamp(-0.5, 0.6),
    "aten.clamp.Tensor": lambda h, p: h.clamp(-I(0.5).double(), weight(4, 1, 1).abs()),
    "aten.clamp_min.default": lambda h, p: aten.clamp_min.default(h, -0.3),
    "aten.clamp_max.default": lambda h, p: aten.clamp_max.default(h, 0.3),
    "aten.threshold.default": lambda h, p: F.threshold(h, 0.1, 0.7),
    "aten.native_dropout.default": lambda h, p: dropout(h),
    "aten._prelu_kernel.default": lambda h, p: F.prelu(h, p),
    "fastgan.bias_act.default": lambda h, p: fastgan.ops.bias_act(h, p, act="lrelu", clamp=0.7),
    "aten.add.Tensor": lambda h, p: h + p.view(4, 1, 1),
    "aten.add.Scalar": lambda h, p: aten.add.Scalar(h, 0.3, 2),
    "aten.sub.Tensor": lambda h, p: torch.sub(p.view(4, 1, 1), h, alpha=2),
    "aten.sub.Scalar": lambda h, p: aten.sub.Scalar(h, 0.3, 2),
    "aten.rsub.Tensor": lambda h, p: aten.rsub.Tensor(h, p.view(4, 1, 1), alpha=2),
    "aten.rsub.Scalar": lambda h, p: torch.rsub(h, 0.4, alpha=2),
    "aten.neg.default": lambda h, p: -h,
    "aten.mul.Tensor": lambda h, p: p.view(4, 1, 1) * h,
    "aten.mul.Scalar": lambda h, p: aten.mul.Scalar(h, 0.3),
    "aten.div.Tensor": lambda h, p: h / p.view(4, 1, 1),
    "aten.div.Scalar": lambda h, p: aten.div.Scalar(h, 0.3),
    "aten.lerp.Scalar": lambda h, p: torch.lerp(p.view(1, 4, 1, 1).expand_as(h), h, 0.3),
    "aten.convolution.default": lambda h, p: F.conv2d(h, weight(8, 2, 2, 2), p.repeat(2), 2, 1, 1, 2),
    "aten.addmm.default": lambda h, p: F.linear(h.flatten(1), weight(4, 144), p),
    "aten.mm.default": lambda h, p: h.flatten(1) @ (weight(144, 4) * p),
    "aten.bmm.default": lambda h, p: torch.bmm((weight(2, 3, 4) * p), h.flatten(2)),
    "aten.mv.default": lambda h, p: torch.mv(h.flatten(1), p.repeat(36))[:, None],
    "aten.native_batch_norm.default": lambda h, p: F.batch_norm(h, weight(4), weight(4).abs() + 0.5, p, 2 * p),
    "aten.max_pool2d_with_indices.default": lambda h, p: F.max_pool2d(h, 3, 2, 1),
    "aten.max_pool3d_with_indices.default": lambda h, p: F.max_pool3d(h.unflatten(2, (2, 3)), 2, 1),
    "aten.adaptive_max_pool2d.default": lambda h, p: F.adaptive_max_pool2d(h, 4),
    "aten.adaptive_max_pool3d.default": lambda h, p: F.adaptive_max_pool3d(h.unflatten(2, (2, 3)), 2),
    "aten.max.dim": lambda h, p: h.max(-1).values,
    "aten.min.dim": lambda h, p: h.min(1, keepdim=True).values,
    "aten.amax.default": lambda h, p: h.round().add(h * 0).amax((1, 3)) + h.relu().amax((1, -1)),
    "aten.amin.default": lambda h, p: h.relu().amin((2,), keepdim=True),
    "aten.maximum.default": lambda h, p: torch.maximum(h.relu(), torch.maximum(p.view(4, 1, 1), 0 * h)),
    "aten.minimum.default": lambda h, p: torch.minimum(p.view(4, 1, 1), h),
    "aten.where.self": lambda h, p: torch.where(h > 0.2, h, p.view(4, 1, 1)),
    "aten.masked_fill.Scalar": lambda h, p: h.masked_fill(bool_mask(h), 0.4),
    "aten.masked_fill.Tensor": lambda h, p: h.masked_fill(bool_mask(h), p[1]),
    "aten.sum.dim_IntList": lambda h, p: h.sum((1, -1)),
    "aten.sum.default": None,
    "aten.mean.dim": lambda h, p: h.mean((1, -1), keepdim=True),
    "aten.mean.default": None,
    "aten.view.default": lambda h, p: h.view(2, 8, -1),
    "aten._unsafe_view.default": lambda h, p: aten._unsafe_view(h, (2, 2, 2, 36)),
    "aten.unsqueeze.default": lambda h, p: h.unsqueeze(1),
    "aten.squeeze.default": lambda h, p: h[:, :1].squeeze(),
    "aten.squeeze.dim": lambda h, p: h[:, :1].squeeze(1),
    "aten.squeeze.dims": lambda h, p: h[:, :1].unsqueeze(-1).squeeze((1, -1)),
    "aten.permute.default": lambda h, p: h.permute(2, 0, 3, 1).permute(1, 0, 3, 2),
    "aten.transpose.int": lambda h, p: h.transpose(0, -1).transpose(1, -1).transpose(1, 0),
    "aten.t.default": lambda h, p: h.flatten(1).t().t(),
    "aten.clone.default": lambda h, p: h.clone(),
    "aten._to_copy.default": lambda h, p: h.float().double(),
    "aten.alias.default": lambda h, p: aten.alias(h),
    "aten.lift_fresh.default": lambda h, p: aten.lift_fresh(h),
    "aten.expand.default": lambda h, p: h[:, :1].expand(-1, 3, -1, -1),
    "aten.slice.Tensor": lambda h, p: h[:, 1:, ::2],
    "aten.select.int": lambda h, p: h[:, :, 2],
    "aten.index_select.default": lambda h, p: h.index_select(2, I([0, 0, 3])),
    "aten.flip.default": lambda h, p: h.flip((1, 2)),
    "aten.roll.default": lambda h, p: h.roll((1, 2), (1, 3)),
    "aten.cumsum.default": lambda h, p: h.cumsum(2),
    "aten.index.Tensor": lambda h, p: h[:, :, I([0, 0, 3]), I([1, 2, 2])],
    "aten.gather.default": lambda h, p: h.gather(1, (h.detach() > 0).long()),
    "aten.unfold.default": lambda h, p: h.unfold(2, 3, 2),
    "aten.diagonal.default": lambda h, p: h.movedim(0, 2).diagonal(1, 1, 3).transpose(0, 1),
    "aten.tril.default": lambda h, p: h.tril(1),
    "aten.triu.default": lambda h, p: h.triu(-1),
    "aten.rot90.default": lambda h, p: h.rot90(1, (1, 3)),
    "aten.repeat.default": lambda h, p: h[:, 0].repeat(2, 1, 3, 1).transpose(0, 1),
    "aten.addmv.default": lambda h, p: torch.addmv(p[:1], h.flatten(1), p.repeat(36))[:, None],
    "aten.view_copy.default": lambda h, p: aten.view_copy(h, (2, 8, -1)),
    "aten.unsqueeze_copy.default": lambda h, p: aten.unsqueeze_copy(h, 1),
    "aten.squeeze_copy.default": lambda h, p: aten.squeeze_copy(h[:, :1]),
    "aten.squeeze_copy.dim": lambda h, p: aten.squeeze_copy(h[:, :1], 1),
    "aten.squeeze_copy.dims": lambda h, p: aten.squeeze_copy(h[:, :1].unsqueeze(-1), (1, -1)),
    "aten.permute_copy.default": lambda h, p: aten.permute_copy(h, (0, 2, 3, 1)),
    "aten.transpose_copy.int": lambda h, p: aten.transpose_copy(h, 1, -1),
    "aten.t_copy.default": lambda h, p: aten.t_copy(h.flatten(1)).t(),
    "aten.alias_copy.default": lambda h, p: aten.alias_copy(h),
    "aten.expand_copy.default": lambda h, p: aten.expand_copy(h[:, :1], (-1, 3, -1, -1)),
    "aten.slice_copy.Tensor": lambda h, p: aten.slice_copy(h, 2, 1, 6, 2),
    "aten.select_copy.int": lambda h, p: aten.select_copy(h, 2, 2),
    "aten.split.Tensor": lambda h, p: torch.cat(h.split(3, 1)[::-1], 1),
    "aten.split_with_sizes.default": lambda h, p: h.split([1, 3], 1)[1],
    "aten.unbind.int": lambda h, p: h.unbind(2)[3] - h.unbind(2)[1],
    "aten.cat.default": lambda h, p: torch.cat([p.view(1, 4, 1, 1).expand_as(h), h, h.relu()], 1),
    "aten.stack.default": lambda h, p: torch.stack([p.view(1, 4, 1, 1).expand_as(h), h, h.relu()], 2),
    "aten.reflection_pad1d.default": lambda h, p: F.pad(h.flatten(2), (1, 2), "reflect"),
    "aten.reflection_pad2d.default": lambda h, p: F.pad(h, (1, 2, 0, 3), "reflect"),
    "aten.reflection_pad3d.default": lambda h, p: F.pad(h.unflatten(2, (2, 3)), (1, 2, 0, 1, 1, 0), "reflect"),
    "aten.replication_pad1d.default": lambda h, p: F.pad(h.flatten(2), (1, 2), "replicate"),
    "aten.replication_pad2d.default": lambda h, p: F.pad(h, (1, 2, 0, 3), "replicate"),
    "aten.replication_pad3d.default": lambda h, p: F.pad(h.unflatten(2, (2, 3)), (1, 2, 0, 1, 1, 0), "replicate"),
    "aten.avg_pool3d.default": lambda h, p: F.avg_pool3d(h.unflatten(2, (2, 3)), 2, 1, 1, True, False),
    "aten._adaptive_avg_pool2d.default": lambda h, p: F.adaptive_avg_pool2d(h, (4, 3)),
    "aten._adaptive_avg_pool3d.default": lambda h, p: F.adaptive_avg_pool3d(h.unflatten(2, (2, 3)), (1, 2, 4)),
    "aten.pixel_shuffle.default": lambda h, p: F.pixel_shuffle(h, 2),
    "aten.pixel_unshuffle.default": lambda h, p: F.pixel_unshuffle(h, 3),
    "aten.im2col.default": lambda h, p: F.unfold(h, (2, 3), padding=1, stride=2),
    "aten.col2im.default": lambda h, p: F.fold(h.reshape(2, 8, 18), (4, 7), 2),
    "aten.constant_pad_nd.default": lambda h, p: F.pad(h, (1, -1, 2, 0, 0, 1), value=0.7),
    "fastgan.upfirdn2d.default": lambda h, p: fastgan.ops.upfirdn2d(h, FILTER, up=(2, 1), down=(1, 2), padding=2),
    "fastgan.conv1x1.default": lambda h, p: Convolution.apply(h, weight(5, 4, 1, 1), weight(5), POINTWISE),
    "fastgan.conv3x3.default": lambda h, p: fastgan.ops.conv3x3(
        fastgan.ops.conv3x3(h, weight(4, 2, 3, 3), p, groups=2), weight(4, 4, 3, 3), p
    ),
    "fastgan.conv_stride2.default": lambda h, p: fastgan.ops.conv_stride2(h, weight(5, 4, 4, 4), padding=2),
    "fastgan.conv_stride2_transposed.default": lambda h, p: Convolution.apply(
        h, weight(4, 2, 3, 3), weight(2), TRANSPOSED
    ),
    "aten.avg_pool2d.default": lambda h, p: F.avg_pool2d(h, 3, 2, 1, True, False),
}

for name, resize in {
    "upsample_nearest1d": lambda h: F.interpolate(h.flatten(2), size=50),
    "upsample_nearest2d": lambda h: F.interpolate(h, (9, 4)),
    "upsample_nearest3d": lambda h: F.interpolate(h.unflatten(2, (2, 3)), (3, 4, 5)),
    "_upsample_nearest_exact1d": lambda h: F.interpolate(h.flatten(2), size=50, mode="nearest-exact"),
    "_upsample_nearest_exact2d": lambda h: F.interpolate(h, (9, 4), mode="nearest-exact"),
    "_upsample_nearest_exact3d": lambda h: F.interpolate(h.unflatten(2, (2, 3)), (3, 4, 5), mode="nearest-exact"),
    "upsample_linear1d": lambda h: F.interpolate(h.flatten(2), size=50, mode="linear"),
    "upsample_bilinear2d": lambda h: F.interpolate(h, (9, 4), mode="bilinear", align_corners=True),
    "upsample_trilinear3d": lambda h: F.interpolate(h.unflatten(2, (2, 3)), (3, 4, 5), mode="trilinear"),
    "upsample_bicubic2d": lambda h: F.interpolate(h, (9, 4), mode="bicubic"),
    "_upsample_bilinear2d_aa": lambda h: F.interpolate(h, (3, 4), mode="bilinear", antialias=True),
    "_upsample_bicubic2d_aa": lambda h: F.interpolate(h, (3, 4), mode="bicubic", antialias=True),
}.items():
    CALLS[f"aten.{name}.default"] = lambda h, p, resize=resize: resize(h)

OTHER_DEVICES = {"aten.cudnn_batch_norm.default", "aten.miopen_batch_norm.default"}
COMPOSITE = {"aten.reshape.default"}
"""Autograd sees what they are made of, and so does the recorder: their rules are never called."""
WHOLE = {"aten.sum.default", "aten.mean.default"}
"""They reduce the samples with everything else."""
VECTORS = {f"aten.{name}.vec" for name in dir(aten) if "upsample" in name}
"""F.interpolate takes these overloads apart before anything is recorded."""
REFUSED = {str(op) for op in refused.RULES}


class Around(nn.Module):
    """A layer, one operation, a rectifier and a head: biases before and after, so that constants matter."""

    def __init__(self, call) -> None:
        super().__init__()
        self.call = call
        self.gain, self.shift, self.p = (
            nn.Parameter(t) for t in (torch.rand(4) + 0.5, 0.3 * torch.randn(4), torch.rand(4) + 0.2)
        )
        self.head, self.last = nn.Parameter(torch.randn(1000)), nn.Parameter(torch.randn(1))

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(x * self.gain.view(4, 1, 1) + self.shift.view(4, 1, 1), 0.2) * 1.1
        z = self.call(h, self.p).flatten(1) - 0.1
        return (torch.where(z > 0, z, 0.3 * z) * self.head[: z.shape[1]]).sum(1) + self.last


def check(call) -> None:
    critic = Around(call).double()
    real, fake = torch.randn(2, *WIDE).double()
    truth = gradients(other := copy.deepcopy(critic), textbook(other, real, fake, None, loss, r1=2.0, r2=1.0))
    total = fastgan.critic_loss(critic, real, fake, loss=loss, penalties=(R1(2.0), R2(1.0)), method="one_pass")
    found = gradients(critic, total)
    for of in (found, truth):
        for name in ("gain", "shift", "p", "head", "last"):
            of.setdefault(name, torch.zeros(1))
    limit = 1e-5 if call is CALLS["aten._to_copy.default"] else 1e-10
    assert relative_error(found, truth) <= limit


@pytest.mark.parametrize("name", sorted(map(str, RULES)))
def test_every_rule_is_reached_and_right(name, monkeypatch, seed):
    torch.manual_seed(seed)
    if name in OTHER_DEVICES | REFUSED:
        pytest.skip("another device's, or refused: tests/penalties/test_refusals.py")
    operation = next(op for op in RULES if str(op) == name)
    if name in COMPOSITE:
        assert operation._can_decompose()
        return
    if name in VECTORS:
        assert operation._can_decompose() or name.endswith(".vec")
        return
    if name in WHOLE:
        with pytest.raises(NotAffineError, match="are reduced"):
            record(lambda x: x + operation(x), torch.randn(3, 1))
        return
    assert name in CALLS, f"no critic in this file reaches {name}: write one"
    rule, reached = RULES[operation], []
    monkeypatch.setitem(RULES, operation, lambda *args: reached.append(name) or rule(*args))
    check(CALLS[name])
    assert reached


ONE_SIZE = {
    "valid": lambda h, p: F.conv2d(h, weight(4, 4, 3, 3), p, padding="valid"),
    "valid, stride 2": lambda h, p: F.conv2d(h, weight(4, 4, 4, 4), p, stride=2, padding="valid"),
    "valid, 1x1": lambda h, p: F.conv2d(h, weight(4, 4, 1, 1), p, padding="valid"),
    "valid, in one dimension": lambda h, p: F.conv1d(h.flatten(2), weight(4, 4, 3), p, padding="valid"),
    "all": lambda h, p: torch.convolution(h, weight(4, 4, 3, 3), p, [1], [1], [1], False, [0], 1),
    "all, transposed": lambda h, p: torch.convolution(h, weight(4, 4, 3, 3), p, [2], [1], [1], True, [1], 1),
}


@pytest.mark.parametrize("sizes", ONE_SIZE)
def test_a_convolution_with_one_size_for_all_dimensions(sizes, seed):
    torch.manual_seed(seed)
    check(ONE_SIZE[sizes])


@pytest.mark.parametrize("name", sorted(map(str, IN_PLACE)))
def test_every_operation_in_place_is_right_or_refused(name):
    operation = next(op for op in IN_PLACE if str(op) == name)
    given = ARGUMENTS.get(name, ARGUMENTS.get(name.split(".")[1], lambda h, p: ()))

    def call(h: Tensor, p: Tensor) -> Tensor:
        h = 1 * (h.flatten(1) if name in MATRICES else h[:, :, :1] if "squeeze" in name else h)
        h = h.flatten(1).sum(1) if name == "aten.addmv_.default" else h
        operation(h, *given(h, p))
        return h.t() if name == "aten.t_.default" else h.view(2, -1)

    try:
        check(call)
    except NotAffineError:
        return


def shifted(h: Tensor, p: Tensor) -> tuple:
    return (p.view(4, 1, 1),)


ARGUMENTS = {
    "add_": shifted,
    "sub_": shifted,
    "mul_": shifted,
    "div_": shifted,
    **dict.fromkeys([f"aten.{name}_.Scalar" for name in ("add", "sub", "mul", "div")], lambda h, p: (0.7,)),
    "lerp_": lambda h, p: (h.flip(1), 0.3),
    "aten.clamp_.default": lambda h, p: (-0.5, 0.5),
    "aten.clamp_.Tensor": lambda h, p: (I(-0.5), I(0.5)),
    "clamp_min_": lambda h, p: (-0.2,),
    "clamp_max_": lambda h, p: (0.2,),
    "threshold_": lambda h, p: (0.1, 0.3),
    "aten.masked_fill_.Scalar": lambda h, p: (bool_mask(h), 0.3),
    "aten.masked_fill_.Tensor": lambda h, p: (bool_mask(h), I(0.3).double()),
    "cumsum_": lambda h, p: (1,),
    "unsqueeze_": lambda h, p: (1,),
    "aten.squeeze_.dim": lambda h, p: (2,),
    "aten.squeeze_.dims": lambda h, p: ((2,),),
    "leaky_relu_": lambda h, p: (0.2,),
    "addmv_": lambda h, p: (weight(2, 3), weight(3)),
    "addmm_": lambda h, p: (weight(2, 3), weight(3, 144)),
}
MATRICES = {"aten.t_.default", "aten.addmm_.default"}


# --- constants ------------------------------------------------------------------------------------------------------

FILLERS = {
    "size": (2, 4),
    "stride": (4, 1),
    "fill_value": 2.0,
    "high": 5,
    "low": 1,
    "p": 0.4,
    "decimals": 1,
    "generator": None,
    "values": torch.rand(2, 4, dtype=torch.float64),
}
TENSORS = sorted(str(op) for op in CONSTANT if "Tensor" in str(op._schema.arguments[0].type))
"""The others take numbers, for which nothing is recorded."""


@pytest.mark.parametrize("name", TENSORS)
def test_constants_have_no_derivative(name):
    """Whatever the recorder takes for a constant, autograd gives no gradient or zeros, or cannot differentiate."""
    operation = next(op for op in CONSTANT if str(op) == name)
    x = torch.rand(2, 4, dtype=torch.float64, requires_grad=True)
    h = x * 0.6
    positional, keywords = [], {}
    for argument in operation._schema.arguments[1:]:
        if argument.has_default_value():
            continue
        value = FILLERS[argument.name]
        if "Tensor" in str(argument.type) and not isinstance(value, Tensor):
            value = torch.full((2, 4) if argument.name == "p" else (), value)
        if argument.kwarg_only:
            keywords[argument.name] = value
        else:
            positional.append(value)
    try:
        result = operation(h, *positional, **keywords)
        if not result.requires_grad:
            return
        (gradient,) = torch.autograd.grad(result.sum(), x, allow_unused=True)
    except RuntimeError as error:
        if "derivative for" not in str(error):
            raise
        return
    assert gradient is None or not gradient.any()


@pytest.mark.parametrize("name", TENSORS)
def test_constants_share_no_memory_but_by_detach(name):
    """What is written into a constant cannot change an activation."""
    operation = next(op for op in CONSTANT if str(op) == name)
    assert not operation.is_view or operation.name().startswith("aten::detach")
