"""A stand-in in plain PyTorch, with the names and signatures of the original."""

import torch.nn.functional as F

calls = []


def upfirdn2d(input, kernel, up=1, down=1, pad=(0, 0)):
    calls.append("upfirdn2d")
    ux, uy = (up, up) if isinstance(up, int) else up
    dx, dy = (down, down) if isinstance(down, int) else down
    pad = (*pad, *pad) if len(pad) == 2 else pad
    channels = input.shape[1]
    spread = input.new_zeros(*input.shape[:2], input.shape[2] * uy, input.shape[3] * ux)
    spread[:, :, ::uy, ::ux] = input
    taps = kernel.to(input.dtype).flip((0, 1)).repeat(channels, 1, 1, 1)
    return F.conv2d(F.pad(spread, pad), taps, groups=channels)[:, :, ::dy, ::dx]
