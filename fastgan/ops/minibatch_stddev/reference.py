"""minibatch_stddev in plain PyTorch, and how it groups the samples."""

import torch
from torch import Tensor

from fastgan.ops._common.precision import compute_dtype

EPSILON = 1e-8  # under the root, as in the paper's code: the csrc files have the same


def count_groups(batch: int, group_size: int | None) -> int:
    """Into how many groups a batch falls; sample i belongs to group i modulo this number."""
    if group_size is None:
        return min(batch, 1)
    if group_size == 1 or batch < 2:
        return batch
    return min(-(-batch // group_size), batch // 2)  # the latter is less where pairs would leave one sample alone


def minibatch_stddev_reference(x: Tensor, group_size: int | None = 4, num_channels: int = 1) -> Tensor:
    """The same in plain PyTorch, as it is usually written; half types in float32, which 1e-8 needs."""
    N, C, H, W = x.shape
    n = count_groups(N, group_size)
    if n == 0:
        return torch.cat([x, x.new_empty(0, num_channels, H, W)], 1)
    wide = x.to(compute_dtype(x))
    if N % n == 0:
        y = _statistic(wide.reshape(N // n, n, num_channels, C // num_channels * H * W))
    else:
        groups = [wide[j::n].reshape(len(range(j, N, n)), 1, num_channels, C // num_channels * H * W) for j in range(n)]
        y = torch.cat([_statistic(group) for group in groups])
    of_sample = y.to(x.dtype).repeat(-(-N // n), 1)[:N]
    return torch.cat([x, of_sample[:, :, None, None].expand(N, num_channels, H, W)], 1)


def _statistic(x: Tensor) -> Tensor:  # [members, groups, features, positions] -> [groups, features]
    return (x - x.mean(0)).square().mean(0).add(EPSILON).sqrt().mean(2)
