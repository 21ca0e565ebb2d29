"""StyleGAN2 from the paper in plain PyTorch, with the names of rosinality's layers and parameters."""

import torch
import torch.nn.functional as F
from op import FusedLeakyReLU, conv2d_gradfix, fused_leaky_relu, upfirdn2d
from torch import nn

# They add this to the squared norm of a filter that was scaled by the equalised learning rate's constant. With `scaled`
# it is added as NVIDIA's and our code do, to the norm of the filter as it is stored.
EPS, scaled = 1e-8, False


def make_kernel(taps):
    k = torch.tensor(taps, dtype=torch.float32)
    k = torch.outer(k, k)
    return k / k.sum()


class PixelNorm(nn.Module):
    def forward(self, x):
        return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()


class Upsample(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("kernel", make_kernel([1, 3, 3, 1]) * 4)

    def forward(self, x):
        return upfirdn2d(x, self.kernel, up=2, down=1, pad=(2, 1))


class Blur(nn.Module):
    def __init__(self, pad, upsample_factor=1):
        super().__init__()
        self.register_buffer("kernel", make_kernel([1, 3, 3, 1]) * upsample_factor**2)
        self.pad = pad

    def forward(self, x):
        return upfirdn2d(x, self.kernel, pad=self.pad)


class EqualConv2d(nn.Module):
    def __init__(self, in_channel, out_channel, kernel_size, stride=1, padding=0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channel, in_channel, kernel_size, kernel_size))
        self.scale = 1 / (in_channel * kernel_size**2) ** 0.5
        self.stride, self.padding = stride, padding

    def forward(self, x):
        return conv2d_gradfix.conv2d(x, self.weight * self.scale, stride=self.stride, padding=self.padding)


class EqualLinear(nn.Module):
    def __init__(self, in_dim, out_dim, bias_init=0, lr_mul=1, activation=None):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_dim, in_dim) / lr_mul)
        self.bias = nn.Parameter(torch.full([out_dim], float(bias_init)))
        self.activation, self.scale, self.lr_mul = activation, lr_mul / in_dim**0.5, lr_mul

    def forward(self, x):
        if self.activation:
            return fused_leaky_relu(F.linear(x, self.weight * self.scale), self.bias * self.lr_mul)
        return F.linear(x, self.weight * self.scale, bias=self.bias * self.lr_mul)


class ModulatedConv2d(nn.Module):
    """One grouped convolution, its groups the samples."""

    def __init__(self, in_channel, out_channel, kernel_size, style_dim, demodulate=True, upsample=False):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, out_channel, in_channel, kernel_size, kernel_size))
        self.scale = 1 / (in_channel * kernel_size**2) ** 0.5
        self.modulation = EqualLinear(style_dim, in_channel, bias_init=1)
        self.demodulate, self.padding = demodulate, kernel_size // 2
        self.blur = Blur((1, 1), 2) if upsample else None

    def forward(self, x, style):
        batch, channels, *size = x.shape
        w = self.scale * self.weight * self.modulation(style).view(batch, 1, channels, 1, 1)
        if self.demodulate:
            w = w / (w.square().sum((2, 3, 4), keepdim=True) + EPS * (self.scale**2 if scaled else 1)).sqrt()
        x = x.reshape(1, batch * channels, *size)
        if self.blur is None:
            y = conv2d_gradfix.conv2d(x, w.flatten(0, 1), padding=self.padding, groups=batch)
            return y.view(batch, -1, *y.shape[2:])
        y = conv2d_gradfix.conv_transpose2d(x, w.transpose(1, 2).flatten(0, 1), stride=2, groups=batch)
        return self.blur(y.view(batch, -1, *y.shape[2:]))


class NoiseInjection(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, image, noise):
        return image if noise is None else image + self.weight * noise


class ConstantInput(nn.Module):
    def __init__(self, channel, size=4):
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channel, size, size))

    def forward(self, batch):
        return self.input.repeat(batch, 1, 1, 1)


class StyledConv(nn.Module):
    def __init__(self, in_channel, out_channel, style_dim, upsample=False):
        super().__init__()
        self.conv = ModulatedConv2d(in_channel, out_channel, 3, style_dim, upsample=upsample)
        self.noise = NoiseInjection()
        self.activate = FusedLeakyReLU(out_channel)

    def forward(self, x, style, noise):
        return self.activate(self.noise(self.conv(x, style), noise))


class ToRGB(nn.Module):
    def __init__(self, in_channel, style_dim, upsample=True):
        super().__init__()
        if upsample:
            self.upsample = Upsample()
        self.conv = ModulatedConv2d(in_channel, 3, 1, style_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, x, style, skip=None):
        out = self.conv(x, style) + self.bias
        return out if skip is None else out + self.upsample(skip)


class Generator(nn.Module):
    def __init__(self, size, style_dim, n_mlp, channels):
        super().__init__()
        self.style = nn.Sequential(
            PixelNorm(),
            *(EqualLinear(style_dim, style_dim, lr_mul=0.01, activation="fused_lrelu") for _ in range(n_mlp)),
        )
        self.input = ConstantInput(channels[4])
        self.conv1 = StyledConv(channels[4], channels[4], style_dim)
        self.to_rgb1 = ToRGB(channels[4], style_dim, upsample=False)
        self.convs, self.to_rgbs, self.noises = nn.ModuleList(), nn.ModuleList(), nn.Module()
        sizes = [2**i for i in range(2, size.bit_length())]
        layers = [4, *(s for s in sizes[1:] for _ in range(2))]
        for i, s in enumerate(layers):
            self.noises.register_buffer(f"noise_{i}", torch.randn(1, 1, s, s))
        for s in sizes[1:]:
            self.convs.append(StyledConv(channels[s // 2], channels[s], style_dim, upsample=True))
            self.convs.append(StyledConv(channels[s], channels[s], style_dim))
            self.to_rgbs.append(ToRGB(channels[s], style_dim))
        self.n_latent = 2 * len(sizes)

    def forward(self, styles, truncation=1, truncation_latent=None, input_is_latent=False, noise=True):
        w = styles if input_is_latent else self.style(styles)
        if truncation < 1:
            w = truncation_latent + truncation * (w - truncation_latent)
        latent = w if w.ndim == 3 else w.unsqueeze(1).repeat(1, self.n_latent, 1)
        noises = [getattr(self.noises, f"noise_{i}") if noise else None for i in range(self.n_latent - 1)]
        out = self.conv1(self.input(len(latent)), latent[:, 0], noises[0])
        skip = self.to_rgb1(out, latent[:, 1])
        i = 1
        for up, conv, to_rgb in zip(self.convs[::2], self.convs[1::2], self.to_rgbs, strict=True):
            out = up(out, latent[:, i], noises[i])
            out = conv(out, latent[:, i + 1], noises[i + 1])
            skip = to_rgb(out, latent[:, i + 2], skip)
            i += 2
        return skip


class ConvLayer(nn.Sequential):
    def __init__(self, in_channel, out_channel, kernel_size, downsample=False, activate=True):
        pad = kernel_size // 2
        layers = [Blur((1 + pad, 1 + pad))] if downsample else []
        layers.append(
            EqualConv2d(in_channel, out_channel, kernel_size, 2 if downsample else 1, 0 if downsample else pad)
        )
        layers += [FusedLeakyReLU(out_channel)] if activate else []
        super().__init__(*layers)


class ResBlock(nn.Module):
    def __init__(self, in_channel, out_channel):
        super().__init__()
        self.conv1 = ConvLayer(in_channel, in_channel, 3)
        self.conv2 = ConvLayer(in_channel, out_channel, 3, downsample=True)
        self.skip = ConvLayer(in_channel, out_channel, 1, downsample=True, activate=False)

    def forward(self, x):
        return (self.conv2(self.conv1(x)) + self.skip(x)) / 2**0.5


class Discriminator(nn.Module):
    def __init__(self, size, channels):
        super().__init__()
        sizes = [2**i for i in range(size.bit_length() - 1, 2, -1)]
        self.convs = nn.Sequential(
            ConvLayer(3, channels[size], 1), *(ResBlock(channels[s], channels[s // 2]) for s in sizes)
        )
        self.final_conv = ConvLayer(channels[4] + 1, channels[4], 3)
        self.final_linear = nn.Sequential(
            EqualLinear(channels[4] * 16, channels[4], activation="fused_lrelu"), EqualLinear(channels[4], 1)
        )

    def forward(self, images):
        x = self.convs(images)
        batch, _, height, width = x.shape
        group = min(4, batch)
        spread = (x.view(group, -1, *x.shape[1:]).var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))
        spread = spread.repeat(group).view(batch, 1, 1, 1).expand(batch, 1, height, width)
        return self.final_linear(self.final_conv(torch.cat([x, spread], 1)).flatten(1))
