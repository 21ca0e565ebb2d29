"""Operations that compare samples, or normalise by x: only double backward can differentiate these."""

from typing import Any

from tests.fuzz.operations.layers import batch_norm_is_right
from tests.fuzz.operations.registry import Live, Out, operation


@operation(eligible=False, weight=0.6)
def normalised(g: Any, h: Live) -> str:
    return g.pick(
        f"F.layer_norm({h}, {h}.shape[1:])",
        f"F.group_norm({h}, 1)",
        f"{g.module(f'nn.LayerNorm({h.shape[-1]})')}({h})",
        f"F.normalize({h} + 0.1, dim=1)",
        f"{h}.softmax(1)",
        f"{h} / ({h}.square().mean(1, keepdim=True) + 1).sqrt()",
        f"{h} / (1 + {h}.abs().mean(1, keepdim=True))",
        f"{h}.square().mean(1, keepdim=True).add(0.1).sqrt() + {h}",
    )


@operation(eligible=False, weight=0.8)
def batch_norm_training(g: Any, h: Live) -> str | None:
    too_few = g.program.samples * h.shape[-1] < 2 or (g.program.samples == 1 and h.ndim == 2)
    if too_few or not batch_norm_is_right(h):
        return None
    kind = {2: "1d", 3: "1d", 4: "2d"}.get(h.ndim, "3d")
    rest = g.pick("", ", momentum=None", ", affine=False", ", track_running_stats=False", ", momentum=0.5")
    return f"{g.module(f'nn.BatchNorm{kind}({h.channels}{rest})')}({h})"


@operation(eligible=False, weight=0.8)
def samples_mixed(g: Any, h: Live) -> str:
    return g.pick(
        f"{h} - {h}.mean(0)",
        f"{h} - 0.5 * {h}.mean(0, keepdim=True)",
        f"{h} + {h}.roll(1, 0)",
        f"{h}.flip(0)",
        f"{h}[torch.arange(len({h}) - 1, -1, -1)]",
        f"{h}.roll(1)",
        f"{h}.cumsum(0)",
        f"{h}.amax(0) - {h}",
        f"{h}[:1] + {h}",
        f"torch.cat([{h}[1:], {h}[:1]])",
        f"{h}.max() - {h}",
        f"{h} * 2 if {h}.sum() > 0 else {h} * 3",
        f"{h}.movedim(0, -1).reshape({h}.shape).relu()",
        f"({h}.new_ones(len({h}), len({h})) @ {h}.flatten(1)).view({h}.shape)",
    )


@operation("image", eligible=False, weight=0.6)
def minibatch_statistics(g: Any, h: Live) -> str:
    deviation = f"(({h} - {h}.mean(0)).square().mean(0) + 0.1).sqrt().mean()"
    return g.pick(
        f"ops.minibatch_stddev({h}, 2)",
        f"{g.module('fastgan.nn.MinibatchStdDev(None)')}({h})",
        f"ops.minibatch_stddev({h}, 1).add_(1)",
        f"torch.cat([{h}, {deviation}.expand(len({h}), 1, *{h}.shape[2:])], 1)",
    )


@operation("image", eligible=False, weight=0.3)
def picked_apart(g: Any, h: Live) -> Out:
    """Indices with a slice in between, whose dimension comes first: as many as there are samples."""
    rows = [i % h.channels for i in range(g.program.samples)]
    columns = [i % h.shape[3] for i in range(g.program.samples)]
    return Out(f"{h}[:, {rows}, :, {columns}].mean(1)")
