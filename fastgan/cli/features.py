"""The command `fastgan features`: writes the critic's features of images."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fastgan.cli.application import Checkpoint, Device, app
from fastgan.errors import UserError


@app.command(no_args_is_help=True)
def features(
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Option(help="The safetensors file to write.")] = Path("features.safetensors"),
    data: Annotated[str | None, typer.Option(help="Images, as for `train`. (default: those of the run)")] = None,
    n: Annotated[int | None, typer.Option(min=1, help="Number of images, chosen at random. (default: all)")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the choice of images.")] = 0,
    device: Device = "auto",
) -> None:
    """Write the features of the critic's penultimate layer for real images.

    The file holds features (float32, a row for each image), indices (of the images in the data) and, where the data
    have classes, labels; their names are in its metadata.

    \b
      fastgan features runs/digits --out features.safetensors
      fastgan features runs/digits --data photos/ --n 1000 --out photos.safetensors
    """
    import torch
    from safetensors.torch import save

    from fastgan.data import load
    from fastgan.train import load_critic, training_images
    from fastgan.train.checkpoint import atomic_file

    critic = load_critic(checkpoint, device)
    channels, size = critic.config.image_shape
    images = training_images(critic.config, critic.digest) if data is None else load(data, size, channels)
    if n is not None and n > len(images):
        raise UserError(f"--n is {n}, expected 1 to {len(images)}, the number of images in {images.name}")
    chosen = torch.arange(len(images))
    if n is not None:
        chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:n]
    for remark in images.remarks:
        typer.echo(remark)
    found = torch.cat([critic.features(images.batch(part)) for part in chosen.split(256)])
    tensors = {"features": found, "indices": chosen}
    if images.labels is not None:
        tensors["labels"] = images.labels[chosen]
    about = {"checkpoint": str(checkpoint), "step": critic.step, "data": images.name, "classes": list(images.classes)}
    try:
        with atomic_file(out) as file:
            file.write(save(tensors, {"fastgan": json.dumps(about)}))
    except OSError as error:
        raise UserError(f"--out is {str(out)!r}, which cannot be written: {error.strerror or error}") from error
    typer.echo(f"wrote {len(found)} images' {found.shape[1]} features to {out}")
