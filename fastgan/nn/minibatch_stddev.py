from torch import nn

from fastgan.ops.minibatch_stddev import minibatch_stddev


class MinibatchStdDev(nn.Module):
    def __init__(self, group_size=4, num_channels=1):
        super().__init__()
        self.group_size, self.num_channels = group_size, num_channels

    def forward(self, x):
        return minibatch_stddev(x, self.group_size, self.num_channels)
