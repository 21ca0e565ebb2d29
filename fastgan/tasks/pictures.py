"""Pictures of what a generator has learnt: truncation, style mixing, interpolation between latents."""

import io
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from fastgan.errors import UserError
from fastgan.files import atomic_file
from fastgan.models import StyleGAN2Generator
from fastgan.tasks.class_names import listed
from fastgan.tasks.gan import GAN
from fastgan.tasks.grid import image_grid
from fastgan.tasks.interpolation import INTERPOLATIONS
from fastgan.tasks.sampling import BATCH, draw_latents, place_of


def truncation_grid(generator: GAN, n: int, seed: int, psis: list[float]) -> Tensor:
    """One row of n images for each psi, always of the same latents: uint8 [C, height, width]."""
    return image_grid(torch.cat([generator.sample(n, seed, psi=psi) for psi in psis]), columns=n)


def class_grid(generator: GAN, n: int, seed: int, labels: list[int]) -> Tensor:
    """One row of n images for each class, always of the same latents: uint8 [C, height, width]."""
    return image_grid(torch.cat([generator.sample(n, seed, labels=label) for label in labels]), columns=n)


@torch.no_grad()
def mixing_grid(generator: GAN, n: int, seed: int, psi: float) -> Tensor:
    """n + 1 rows and columns: the first column's images give the coarse styles of their row, the first row's the rest.

    Coarse are the layers of the lower half of the resolutions. Karras et al. 2019, arXiv:1812.04948, figure 3. The
    corner is left dark.

    Returns:
        uint8 [C, height, width].

    Raises:
        UserError: the generator has no styles.
    """
    network = styled(generator)
    ws = network.ws(draw_latents(generator.latent_dim, 2 * n, seed).to(place_of(network)[0]), psi)
    coarse, fine = ws[:n], ws[n:]
    crossover = network.num_ws // 2
    mixed = torch.cat(
        [coarse[:, None, :crossover].expand(-1, n, -1, -1), fine[None, :, crossover:].expand(n, -1, -1, -1)], 2
    )
    parts = torch.cat([coarse, fine, mixed.flatten(0, 1)]).split(BATCH)
    images = torch.cat([network.synthesis(part).cpu() for part in parts])
    rows, columns, crossed = images.split([n, n, n * n])
    crossed = crossed.unflatten(0, (n, n))
    corner = torch.full_like(images[:1], -1)
    lines = [torch.cat([corner, columns]), *(torch.cat([rows[i : i + 1], crossed[i]]) for i in range(n))]
    return image_grid(torch.cat(lines), columns=n + 1)


@torch.no_grad()
def interpolation(
    generator: GAN,
    n: int,
    seed: int,
    psi: float,
    steps: int,
    label: int | None = None,
    way: str | None = None,
) -> Tensor:
    """A closed tour of n latents, `steps` images from each to the next: float32 [n * steps, C, H, W] in [-1, 1].

    `way` is `linear` or `spherical`, in z: see `fastgan.tasks.interpolation.slerp`. By default it is straight in w
    where the generator has styles; otherwise along great circles in z, whose points have the length that a normal
    distribution of that many dimensions has (White 2016, arXiv:1609.04468). A class-conditional generator stays within
    the class `label`.

    Raises:
        UserError: the generator has classes and there is no label, it has no styles and psi is not 1, or there is no
            such way.
    """
    if generator.told_classes and label is None:
        raise UserError(f"--label is missing, expected one of {listed(generator.told_classes)} for --interpolate")
    if way is not None and way not in INTERPOLATIONS:
        raise UserError(f"--interpolation is {way!r}, expected one of {', '.join(INTERPOLATIONS)}")
    z = draw_latents(generator.latent_dim, n, seed).to(place_of(generator.network)[0])
    weights = torch.arange(steps, dtype=z.dtype, device=z.device) / steps
    network: Any = generator.network if psi == 1 else styled(generator)
    render: Any
    if way is None and isinstance(network, StyleGAN2Generator):
        stops, between, render = network.ws(z, psi), INTERPOLATIONS["linear"], network.synthesis
    else:
        stops, between = z, INTERPOLATIONS[way or "spherical"]
        render = network if psi == 1 else partial(network, psi=psi)
    tour = [between(a, b, t) for a, b in zip(stops, stops.roll(-1, 0), strict=True) for t in weights]
    told = None if label is None else torch.full((len(tour),), label)
    return generator.generated(render, torch.stack(tour), told)


def styled(generator: GAN) -> StyleGAN2Generator:
    """The network of a generator that has styles.

    Raises:
        UserError: it has none.
    """
    if not isinstance(generator.network, StyleGAN2Generator):
        raise UserError(
            "CHECKPOINT holds a generator without styles; expected a StyleGAN2 for --psi other than 1 and for --mix"
        )
    return generator.network


def write_gif(images: Tensor, path: Path, milliseconds: int = 60) -> None:
    """Writes images, float32 [N, C, H, W] in [-1, 1], as an endless film, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    frames = []
    for image in images:
        array = image_grid(image[None], gap=0).permute(1, 2, 0).numpy()
        frames.append(Image.fromarray(array[..., 0] if array.shape[2] == 1 else array))
    encoded = io.BytesIO()
    frames[0].save(encoded, "GIF", save_all=True, append_images=frames[1:], duration=milliseconds, loop=0)
    with atomic_file(path) as file:
        file.write(encoded.getvalue())
