"""The command `fastgan features`: writes the critic's features of images."""

import json
from pathlib import Path
from typing import Annotated, Any

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

    from fastgan.data import load as load_data
    from fastgan.files import atomic_file
    from fastgan.recipes import load
    from fastgan.tasks.features import critic_features

    trained = load(checkpoint, device)
    network: Any = trained.task
    if not network.images_from_noise:
        raise UserError("CHECKPOINT holds a task without a critic of images alone, expected a GAN of images")
    channels, *size = trained.recipe.data.shape
    images: Any = trained.sources()["image"] if data is None else load_data(data, tuple(size), channels)
    if n is not None and n > len(images):
        raise UserError(f"--n is {n}, expected 1 to {len(images)}, the number of images in {images.name}")
    chosen = torch.arange(len(images))
    if n is not None:
        chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:n]
    for remark in images.remarks:
        typer.echo(remark)
    found = torch.cat([critic_features(network, images.batch(part)) for part in chosen.split(256)])
    tensors = {"features": found, "indices": chosen}
    if images.labels is not None:
        tensors["labels"] = images.labels[chosen]
    about = {"checkpoint": str(checkpoint), "step": trained.step, "data": images.name, "classes": list(images.classes)}
    try:
        with atomic_file(out) as file:
            file.write(save(tensors, {"fastgan": json.dumps(about)}))
    except OSError as error:
        raise UserError(f"--out is {str(out)!r}, which cannot be written: {error.strerror or error}") from error
    typer.echo(f"wrote {len(found)} images' {found.shape[1]} features to {out}")
