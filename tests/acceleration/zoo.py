"""Models as people write them, and a comparison of two of them."""

import copy

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import spectral_norm as hooked_spectral_norm
from torch.nn.utils.parametrizations import spectral_norm


class MinibatchDiscrimination(nn.Module):
    """The widely copied one."""

    def __init__(self, in_features, out_features, kernel_dims, mean=False):
        super().__init__()
        self.in_features, self.out_features, self.kernel_dims, self.mean = in_features, out_features, kernel_dims, mean
        self.T = nn.Parameter(torch.Tensor(in_features, out_features, kernel_dims))
        nn.init.normal_(self.T, 0, 0.2)

    def forward(self, x):
        matrices = x.mm(self.T.view(self.in_features, -1))
        matrices = matrices.view(-1, self.out_features, self.kernel_dims)
        M = matrices.unsqueeze(0)
        M_T = M.permute(1, 0, 2, 3)
        norm = torch.abs(M - M_T).sum(3)
        expnorm = torch.exp(-norm)
        o_b = expnorm.sum(0) - 1
        if self.mean:
            o_b = o_b / (x.size(0) - 1)
        return torch.cat([x, o_b], 1)


class MinibatchStdLayer(nn.Module):
    """With the attributes and the restrictions of StyleGAN2's."""

    def __init__(self, group_size, num_channels=1):
        super().__init__()
        self.group_size, self.num_channels = group_size, num_channels

    def forward(self, x):
        batch, channels, height, width = x.shape
        members = batch if self.group_size is None else min(self.group_size, batch)
        parts = x.view(members, -1, self.num_channels, channels // self.num_channels, height, width)
        variance = (parts - parts.mean(0)).pow(2).mean(0)
        statistic = (variance + 1e-8).sqrt().mean(dim=[2, 3, 4])
        planes = statistic[:, :, None, None].repeat(members, 1, height, width)
        return torch.cat((x, planes), dim=1)


class DangerousInPlace(nn.Module):
    """Activations in place where others hold what they overwrite, and results that are changed in place."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.act = nn.LeakyReLU(0.2, inplace=True)
        self.plain = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.LeakyReLU(0.1))
        self.silu = nn.SiLU(inplace=True)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Sequential(nn.Conv2d(6, 6, 1), nn.LeakyReLU(0.3), nn.Dropout(0.0, inplace=True))

    def forward(self, x):
        x = self.conv(x)
        h = self.act(x)
        y = x + h  # x has been overwritten
        z = self.plain(y)
        z += y  # torch's leaky ReLU saves its input: its result may be changed
        z = z * 1
        self.relu(z[:, :3])  # a view
        z = self.dropout(z) + z
        with torch.no_grad():
            self.silu(z.clone())
        return z.flatten(1).sum(1)


class Residual(nn.Module):
    """Module and functional activations, a skip, one activation used three times."""

    def __init__(self, width=6):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.act = nn.LeakyReLU(0.2)
        self.out = nn.Linear(width, 1)

    def forward(self, x):
        h = self.act(self.stem(x))
        h = h + F.relu(self.second(self.act(self.first(h))))
        h = F.avg_pool2d(h, 2)
        h = h + 0.3 * self.second(F.leaky_relu(self.first(h), 0.1))
        return self.out(self.act(h).mean((2, 3)))


class Features(nn.Module):
    """Walks over its Sequential, slices it, and shares a convolution with another one."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 5, 3), nn.LeakyReLU(0.2, inplace=True), nn.Conv2d(5, 1, 3)
        )
        self.again = nn.Sequential(self.net[0], nn.Tanh(), nn.Conv2d(5, 1, 1))

    def forward(self, x):
        features, h = [], x
        for layer in self.net:
            h = layer(h)
            features.append(h)
        total = sum(f.clone().flatten(1).mean(1) for f in features)
        total = total + self.net[0](x).flatten(1).mean(1) + self.net[:3](x).flatten(1).square().mean(1)
        return total + self.again(x).flatten(1).mean(1) + self.net(x).flatten(1).mean(1)


class Functional(nn.Module):
    """No layer of torch does the work."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(8, 1, 3, 3) * 0.3)
        self.b = nn.Parameter(torch.randn(8) * 0.1)
        self.up = nn.Parameter(torch.randn(8, 2, 3, 3) * 0.3)
        self.v = nn.Parameter(torch.randn(4, 1) * 0.3)

    def forward(self, x):
        h = F.leaky_relu(F.conv2d(x, self.w, self.b, padding=1, groups=4), 0.2)
        h = torch.relu(F.conv_transpose2d(h, self.up, stride=2, groups=2)).abs()
        h = F.hardtanh(h, -1, 1).relu() + F.relu6(h)
        return F.leaky_relu(h.mean((2, 3)) @ self.v, 0.1, inplace=True)


def _hooked():
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.LeakyReLU(0.2, inplace=True), nn.Flatten(), nn.Linear(6 * 36, 1))
    net[0].register_forward_hook(lambda module, args, y: y * 1.5)
    net[3].register_forward_pre_hook(lambda module, args: (args[0] * 0.5,))
    return net


def _frozen():
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.SiLU(), nn.Flatten(), nn.Linear(96, 1))
    net[0].requires_grad_(False)
    net[2].weight.requires_grad_(False)
    net[5].bias.requires_grad_(False)
    return net


IMAGE, NOISE, VECTOR, AUDIO = (4, 3, 8, 8), (4, 5, 1, 1), (6, 7), (3, 2, 24)

ZOO = {
    "dcgan-critic": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(6, 8, 4, 2, 1, bias=False), nn.BatchNorm2d(8), nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(8, 1, 2), nn.Sigmoid(),
        ),
        IMAGE,
    ),
    "dcgan-generator": (
        lambda: nn.Sequential(
            nn.ConvTranspose2d(5, 8, 2), nn.BatchNorm2d(8), nn.ReLU(True),
            nn.ConvTranspose2d(8, 6, 4, 2, 1, output_padding=1), nn.ReLU(True),
            nn.ConvTranspose2d(6, 3, 3, 1, groups=3, dilation=2), nn.Tanh(),
        ),
        NOISE,
    ),
    "mlp": (
        lambda: nn.Sequential(
            nn.Linear(7, 12), nn.LeakyReLU(0.2), nn.Dropout(0.0), nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 9),
            nn.SiLU(), nn.Linear(9, 9), nn.Sigmoid(), nn.Linear(9, 9), nn.ELU(), nn.SELU(), nn.Softplus(), nn.PReLU(),
            nn.ReLU6(), nn.Hardtanh(), nn.Softplus(threshold=50), MinibatchDiscrimination(9, 4, 3), nn.Linear(13, 1),
        ),
        VECTOR,
    ),
    "resnet": (Residual, IMAGE),
    "sngan": (
        lambda: nn.Sequential(
            spectral_norm(nn.Conv2d(3, 6, 3, padding=1)), nn.LeakyReLU(0.1),
            spectral_norm(nn.Conv2d(6, 6, 4, 2, 1)), nn.LeakyReLU(0.1, inplace=True),
            hooked_spectral_norm(nn.Conv2d(6, 6, 3, padding=1)), nn.LeakyReLU(0.1, inplace=True),
            nn.Flatten(), spectral_norm(nn.Linear(96, 1)),
        ),
        IMAGE,
    ),
    "audio": (
        lambda: nn.Sequential(
            nn.Conv1d(2, 6, 5, 2, 2), nn.LeakyReLU(0.2, inplace=True),
            nn.Sequential(nn.Conv1d(6, 6, 3, padding="same", groups=3), nn.LeakyReLU(0.1)),
            nn.ConvTranspose1d(6, 4, 4, 2, 1), nn.PReLU(4), nn.Conv1d(4, 1, 3),
        ),
        AUDIO,
    ),
    "grouped": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=2, dilation=2, groups=3), nn.ReLU(), nn.Conv2d(6, 8, 3, 2, 1, groups=2),
            nn.LeakyReLU(0.2), nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect", groups=8), nn.Tanh(),
            nn.Flatten(), nn.Linear(128, 1),
        ),
        IMAGE,
    ),
    "volume": (
        lambda: nn.Sequential(nn.Conv3d(2, 4, 3), nn.LeakyReLU(0.2, True), nn.ConvTranspose3d(4, 2, 2), nn.Sigmoid()),
        (2, 2, 4, 4, 4),
    ),
    "unbatched": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 2, 3), nn.SiLU(inplace=True)),
        (3, 6, 6),
    ),
    "stylegan2-critic": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 3, 2, 1), nn.LeakyReLU(0.2), MinibatchStdLayer(2, 3), nn.Conv2d(9, 6, 3, padding=1),
            nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(96, 1),
        ),
        IMAGE,
    ),
    "features": (Features, IMAGE),
    "in-place": (DangerousInPlace, IMAGE),
    "hooked": (_hooked, IMAGE),
    "frozen": (_frozen, IMAGE),
    "convolution": (lambda: nn.Conv2d(3, 4, 3, groups=1), IMAGE),
}  # fmt: skip


def build(name, generator, dtype=torch.float64):
    """The model, a copy of it, and an input."""
    make, shape = ZOO[name]
    model = make().to(dtype)
    x = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    return model, copy.deepcopy(model), x


def derivatives(model, x):
    """Output, gradients of a loss to the input and the parameters, and those of a gradient penalty."""
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    x = x.clone().requires_grad_()
    y = model(x)
    weights = torch.linspace(0.5, 1.5, y.numel(), dtype=y.dtype).reshape(y.shape)
    first = torch.autograd.grad((y * weights).sum(), [x, *parameters.values()], retain_graph=True, allow_unused=True)
    (g,) = torch.autograd.grad((y * weights).sum(), x, create_graph=True)
    penalty = g.square().sum() + y.square().sum()
    second = torch.autograd.grad(penalty, [x, *parameters.values()], allow_unused=True)
    names = ["x", *parameters]
    found = {"y": y.detach()}
    found |= {f"first {name}": t for name, t in zip(names, first, strict=True)}
    found |= {f"second {name}": t for name, t in zip(names, second, strict=True)}
    # An exact zero may be None: that is what spares the passes.
    shapes = {f"{order} {name}": t for order in ("first", "second") for name, t in [("x", x), *parameters.items()]}
    return {name: torch.zeros_like(shapes[name]) if t is None else t.detach() for name, t in found.items()}


def assert_same(found, expected, rtol=1e-10):
    assert found.keys() == expected.keys()
    for name, t in expected.items():
        # Beside the largest element: a sum of terms that cancel is as exact as its terms.
        scale = max(1.0, float(t.detach().abs().max())) if t.numel() else 1.0
        torch.testing.assert_close(
            found[name], t, rtol=rtol, atol=rtol * scale, msg=lambda m, name=name: f"{name}: {m}"
        )
