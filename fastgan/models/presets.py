"""`PRESETS`: every preset of `fastgan train`, by name."""

from functools import partial

from fastgan.models.dcgan import BatchNormCritic, DCGANCritic, DCGANGenerator
from fastgan.models.preset import Preset, Recipe
from fastgan.models.resnet import ResNetCritic, ResNetGenerator
from fastgan.models.stylegan2 import StyleGAN2Critic, StyleGAN2Generator

DIGITS_DCGAN = Preset(
    name="digits-dcgan",
    about="DCGAN for grey 8x8 images, tuned on scikit-learn's digits",
    channels=1,
    resolution=8,
    latent_dim=64,
    generator=partial(DCGANGenerator, latent_dim=64, channels=1, resolution=8, width=64),
    critic=partial(
        DCGANCritic,
        channels=1,
        resolution=8,
        width=32,
        features=128,
        similarities=50,
        kernel_dims=5,
        dropout=0.4,
        noise=0.3,
    ),
    # A critic slower than the generator, and dropout: with 1,797 images it would otherwise know them by heart.
    recipe=Recipe(
        loss="nonsaturating",
        steps=3000,
        batch_size=64,
        lr=4e-4,
        lr_critic=4e-4,
        beta1=0.5,
        beta2=0.99,
        ema=0.998,
    ),
)

DCGAN = Preset(
    name="dcgan",
    about="the plain DCGAN: batch norm in both players, no penalty, the paper's Adam, 64x64 unless asked",
    channels=3,
    resolution=64,
    latent_dim=100,
    generator=partial(DCGANGenerator, latent_dim=100, channels=3, resolution=64, width=64),
    critic=partial(BatchNormCritic, channels=3, resolution=64, width=64),
    recipe=Recipe(  # arXiv:1511.06434, section 4; the averaged generator is of later years
        loss="nonsaturating",
        steps=25_000,
        batch_size=128,
        lr=2e-4,
        lr_critic=2e-4,
        beta1=0.5,
        beta2=0.999,
        ema=0.999,
    ),
    batch_norm=True,
)

DIGITS_RESNET = Preset(
    name="digits-resnet",
    about="residual networks for grey 8x8 images, with gradient penalties in one pass, tuned on scikit-learn's digits",
    channels=1,
    resolution=8,
    latent_dim=64,
    generator=partial(ResNetGenerator, latent_dim=64, channels=1, resolution=8, width=64),
    critic=partial(ResNetCritic, channels=1, resolution=8, width=32),
    # Without momentum, as in R3GAN. The penalties' weight hardly matters: after 1,000 steps 0.2, 1 and 5 score within
    # 0.011 of each other in Fréchet distance, 1 best.
    recipe=Recipe(
        loss="relativistic_pairing",
        penalty="r1:1,r2:1",
        steps=3000,
        batch_size=64,
        lr=4e-4,
        lr_critic=4e-4,
        beta1=0.0,
        beta2=0.99,
        ema=0.998,
    ),
)

# Penalties every 16 steps and path lengths every 4, as in the paper, appendix B; unlike there they are part of an
# ordinary step, not steps of their own, so Adam's settings need no correction. Neither preset's gamma was tuned: the
# larger the images, the larger it should be (the paper has 10 at 1024x1024).
STYLEGAN2 = Preset(
    name="stylegan2",
    about="StyleGAN2 as in the paper (config F) for images of any resolution from 8 to 1024",
    channels=3,
    resolution=256,
    latent_dim=512,
    generator=partial(StyleGAN2Generator, channels=3, resolution=256),
    critic=partial(StyleGAN2Critic, channels=3, resolution=256),
    recipe=Recipe(
        loss="nonsaturating",
        penalty="r1:1",
        penalty_every=16,
        path_length=2.0,
        path_length_every=4,
        steps=800_000,
        batch_size=32,
        lr=2e-3,
        lr_critic=2e-3,
        beta1=0.0,
        beta2=0.99,
        ema=0.9978,  # half of it lasts 10,000 images
    ),
    features="fc",
    styled=True,
)

STYLEGAN2_SMALL = Preset(
    name="stylegan2-small",
    about="a small StyleGAN2 that a CPU can train: narrow layers, a short mapping network, 64x64 unless asked",
    channels=3,
    resolution=64,
    latent_dim=128,
    generator=partial(
        StyleGAN2Generator,
        channels=3,
        resolution=64,
        z_dim=128,
        w_dim=128,
        mapping_layers=2,
        width=1536,
        max_width=96,
    ),
    critic=partial(StyleGAN2Critic, channels=3, resolution=64, width=1536, max_width=96),
    recipe=Recipe(
        loss="nonsaturating",
        penalty="r1:0.5",
        penalty_every=16,
        path_length=0.0,
        steps=5000,
        batch_size=16,
        lr=2.5e-3,
        lr_critic=2.5e-3,
        beta1=0.0,
        beta2=0.99,
        ema=0.995,
    ),
    features="fc",
    styled=True,
)

PRESETS: dict[str, Preset] = {
    preset.name: preset for preset in (DIGITS_DCGAN, DIGITS_RESNET, DCGAN, STYLEGAN2, STYLEGAN2_SMALL)
}
"""Preset name -> preset."""
