"""StyleGAN2 from the papers in plain PyTorch, with the names of the original's functions, layers and parameters."""

import torch
from torch import nn
from torch_utils import misc
from torch_utils.ops import bias_act, conv2d_resample, upfirdn2d

calls = []


@misc.profiled_function
def modulated_conv2d(
    x, weight, styles, noise=None, up=1, down=1, padding=0, resample_filter=None, demodulate=True, flip_weight=True,
    fused_modconv=True,
):  # fmt: skip
    """Equations 1 and 3 of the paper, sample by sample."""
    calls.append("modulated_conv2d")
    results = []
    for image, style in zip(x, styles, strict=True):
        w = weight * style[None, :, None, None]
        if demodulate:
            w = w / (w.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        results.append(
            conv2d_resample.conv2d_resample(
                image[None], w.to(x.dtype), resample_filter, up, down, padding, flip_weight=flip_weight
            )
        )
    x = torch.cat(results)
    return x if noise is None else x + noise.to(x.dtype)


class FullyConnectedLayer(nn.Module):
    def __init__(self, in_features, out_features, activation="linear", lr_multiplier=1, bias_init=0):
        super().__init__()
        self.activation, self.bias_gain = activation, lr_multiplier
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full([out_features], float(bias_init)))
        self.weight_gain = lr_multiplier / in_features**0.5

    def forward(self, x):
        y = x @ (self.weight * self.weight_gain).t()
        return bias_act.bias_act(y, self.bias * self.bias_gain, act=self.activation)


class Conv2dLayer(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, bias=True, activation="linear", down=1, conv_clamp=None):
        super().__init__()
        self.activation, self.up, self.down, self.padding = activation, 1, down, kernel_size // 2
        self.conv_clamp, self.act_gain = conv_clamp, bias_act.activation_funcs[activation][2]
        self.register_buffer("resample_filter", upfirdn2d.setup_filter([1, 3, 3, 1]))
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.weight_gain = 1 / (in_channels * kernel_size**2) ** 0.5

    def forward(self, x, gain=1):
        f = self.resample_filter.float()
        w = self.weight * self.weight_gain
        x = conv2d_resample.conv2d_resample(x, w, f, self.up, self.down, self.padding, flip_weight=self.up == 1)
        clamp = None if self.conv_clamp is None else self.conv_clamp * gain
        return bias_act.bias_act(x, self.bias, act=self.activation, gain=self.act_gain * gain, clamp=clamp)


class MappingNetwork(nn.Module):
    def __init__(self, z_dim, w_dim, num_layers, num_ws):
        super().__init__()
        self.num_ws, self.num_layers, self.w_avg_beta = num_ws, num_layers, 0.995
        for i in range(num_layers):
            setattr(self, f"fc{i}", FullyConnectedLayer(w_dim if i else z_dim, w_dim, "lrelu", lr_multiplier=0.01))
        self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(self, z, truncation_psi=1):
        x = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
        for i in range(self.num_layers):
            x = getattr(self, f"fc{i}")(x)
        return (self.w_avg + truncation_psi * (x - self.w_avg)).unsqueeze(1).repeat(1, self.num_ws, 1)


class SynthesisLayer(nn.Module):
    def __init__(self, in_channels, out_channels, w_dim, resolution, up=1, conv_clamp=None):
        super().__init__()
        self.up, self.padding, self.use_noise, self.conv_clamp = up, 1, True, conv_clamp
        self.activation, self.act_gain = "lrelu", 2**0.5
        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.register_buffer("resample_filter", upfirdn2d.setup_filter([1, 3, 3, 1]))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x, w, noise_mode="const"):
        x = modulated_conv2d(
            x=x, weight=self.weight, styles=self.affine(w), up=self.up, padding=self.padding,
            noise=self.noise_const * self.noise_strength if noise_mode == "const" and self.use_noise else None,
            resample_filter=self.resample_filter.float(), flip_weight=self.up == 1, fused_modconv=not self.training,
        )  # fmt: skip
        return bias_act.bias_act(x, self.bias, act=self.activation, gain=self.act_gain, clamp=self.conv_clamp)


class ToRGBLayer(nn.Module):
    def __init__(self, in_channels, out_channels, w_dim, conv_clamp=None):
        super().__init__()
        self.conv_clamp = conv_clamp
        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.weight_gain = 1 / in_channels**0.5

    def forward(self, x, w):
        x = modulated_conv2d(x=x, weight=self.weight, styles=self.affine(w) * self.weight_gain, demodulate=False)
        return bias_act.bias_act(x, self.bias, clamp=self.conv_clamp)


class SynthesisBlock(nn.Module):
    def __init__(self, in_channels, out_channels, w_dim, resolution, img_channels, conv_clamp):
        super().__init__()
        self.in_channels, self.architecture = in_channels, "skip"
        self.register_buffer("resample_filter", upfirdn2d.setup_filter([1, 3, 3, 1]))
        if in_channels == 0:
            self.const = nn.Parameter(torch.randn(out_channels, resolution, resolution))
        else:
            self.conv0 = SynthesisLayer(in_channels, out_channels, w_dim, resolution, 2, conv_clamp)
        self.conv1 = SynthesisLayer(out_channels, out_channels, w_dim, resolution, conv_clamp=conv_clamp)
        self.torgb = ToRGBLayer(out_channels, img_channels, w_dim, conv_clamp)

    def forward(self, x, img, ws, noise_mode):
        if self.in_channels == 0:
            x = self.const.unsqueeze(0).repeat(len(ws), 1, 1, 1)
        ws = iter(ws.unbind(1))
        if self.in_channels:
            x = self.conv0(x, next(ws), noise_mode)
        x = self.conv1(x, next(ws), noise_mode)
        y = self.torgb(x, next(ws))
        return x, y if img is None else upfirdn2d.upsample2d(img, self.resample_filter.float()) + y


class SynthesisNetwork(nn.Module):
    def __init__(self, w_dim, img_resolution, img_channels, channel_base, channel_max, conv_clamp):
        super().__init__()
        self.resolutions = [2**i for i in range(2, img_resolution.bit_length())]
        before = 0
        for resolution in self.resolutions:
            channels = min(channel_base // resolution, channel_max)
            block = SynthesisBlock(before, channels, w_dim, resolution, img_channels, conv_clamp)
            setattr(self, f"b{resolution}", block)
            before = channels
        self.num_ws = 2 * len(self.resolutions)

    def forward(self, ws, noise_mode="const"):
        x, img, start = None, None, 0
        for resolution in self.resolutions:
            layers = 1 if resolution == 4 else 2
            block_ws = ws[:, start : start + layers + 1]
            x, img = getattr(self, f"b{resolution}")(x, img, block_ws, noise_mode)
            start += layers
        return img


class Generator(nn.Module):
    def __init__(
        self, z_dim, w_dim, img_resolution, img_channels=3, num_layers=2, channel_base=64, channel_max=8,
        conv_clamp=None,
    ):  # fmt: skip
        super().__init__()
        self.synthesis = SynthesisNetwork(w_dim, img_resolution, img_channels, channel_base, channel_max, conv_clamp)
        self.mapping = MappingNetwork(z_dim, w_dim, num_layers, self.synthesis.num_ws)

    def forward(self, z, truncation_psi=1, noise_mode="const"):
        return self.synthesis(self.mapping(z, truncation_psi), noise_mode)


class DiscriminatorBlock(nn.Module):
    def __init__(self, in_channels, tmp_channels, out_channels, img_channels, conv_clamp):
        super().__init__()
        self.architecture, act = "resnet", {"activation": "lrelu", "conv_clamp": conv_clamp}
        self.register_buffer("resample_filter", upfirdn2d.setup_filter([1, 3, 3, 1]))
        if in_channels == 0:
            self.fromrgb = Conv2dLayer(img_channels, tmp_channels, 1, **act)
        self.conv0 = Conv2dLayer(tmp_channels, tmp_channels, 3, **act)
        self.conv1 = Conv2dLayer(tmp_channels, out_channels, 3, down=2, **act)
        self.skip = Conv2dLayer(tmp_channels, out_channels, 1, bias=False, down=2)

    def forward(self, x, img):
        x = self.fromrgb(img) if x is None else x
        return self.skip(x, gain=0.5**0.5) + self.conv1(self.conv0(x), gain=0.5**0.5)


class MinibatchStdLayer(nn.Module):
    def __init__(self, group_size):
        super().__init__()
        self.group_size, self.num_channels = group_size, 1

    def forward(self, x):
        n, c, h, w = x.shape
        group = n if self.group_size is None else min(self.group_size, n)
        y = x.reshape(group, n // group, c, h, w)
        y = (y.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))
        return torch.cat([x, y.repeat(group).view(n, 1, 1, 1).expand(n, 1, h, w)], 1)


class DiscriminatorEpilogue(nn.Module):
    def __init__(self, in_channels, conv_clamp, mbstd_group_size):
        super().__init__()
        self.architecture = "resnet"
        self.mbstd = MinibatchStdLayer(mbstd_group_size)
        self.conv = Conv2dLayer(in_channels + 1, in_channels, 3, activation="lrelu", conv_clamp=conv_clamp)
        self.fc = FullyConnectedLayer(in_channels * 16, in_channels, activation="lrelu")
        self.out = FullyConnectedLayer(in_channels, 1)

    def forward(self, x):
        return self.out(self.fc(self.conv(self.mbstd(x)).flatten(1)))


class Discriminator(nn.Module):
    def __init__(
        self, img_resolution, img_channels=3, channel_base=64, channel_max=8, conv_clamp=None, mbstd_group_size=4
    ):
        super().__init__()
        self.resolutions = [2**i for i in range(img_resolution.bit_length() - 1, 2, -1)]
        channels = {r: min(channel_base // r, channel_max) for r in [*self.resolutions, 4]}
        for r in self.resolutions:
            before = channels[r] if r < img_resolution else 0
            block = DiscriminatorBlock(before, channels[r], channels[r // 2], img_channels, conv_clamp)
            setattr(self, f"b{r}", block)
        self.b4 = DiscriminatorEpilogue(channels[4], conv_clamp, mbstd_group_size)

    def forward(self, img):
        x = None
        for r in self.resolutions:
            x = getattr(self, f"b{r}")(x, img)
        return self.b4(x)
